"""What is wrong with a template, and where."""


class TemplateError(Exception):
    """A template that is wrong or says what has no place in Jinja. `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"line {line}: {message}")
