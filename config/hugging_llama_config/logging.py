"""One logging set-up for the server, the supervisor and the engine: a line a record on stderr."""

import logging
import logging.config


def configure_logging(level: str, process: str) -> None:
    """Log to stderr at `level`; `process` (web, supervisor, engine) stands in every line."""
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "line": {"format": f"%(asctime)s {process}[%(process)d] %(levelname)s %(name)s: %(message)s"}
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "root": {"level": level.upper(), "handlers": ["stderr"]},
        }
    )
