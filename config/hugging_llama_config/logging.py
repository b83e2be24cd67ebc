"""One logging set-up for the server, the supervisor and the engine: a line a record on stderr."""

import logging
import logging.config

_OWN = ("hugging_llama", "hugging_llama_config")


def configure_logging(level: str, process: str) -> None:
    """In a process that is all ours: log to stderr at `level`; `process` (supervisor, engine) stands in every line."""
    _configure(level, process, "")


def configure_own_logging(level: str, process: str) -> None:
    """In a process that may be another application's too: our loggers only, and not if it has seen to them."""
    if not any(logging.getLogger(name).hasHandlers() for name in _OWN):
        _configure(level, process, *_OWN)


def _configure(level: str, process: str, *names: str) -> None:
    logger = {"level": level.upper(), "handlers": ["stderr"], "propagate": False}
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "line": {"format": f"%(asctime)s {process}[%(process)d] %(levelname)s %(name)s: %(message)s"}
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
            "loggers": dict.fromkeys(names, logger),
        }
    )
