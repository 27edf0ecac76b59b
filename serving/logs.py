"""What a process of the server writes to stderr."""

import json
import logging

from serving.config import Options
from serving.middleware import request_id


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the id of the request."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logs(options: Options) -> None:
    """Send everything to stderr in the wanted format; uvicorn's own access log stays off."""
    handler = logging.StreamHandler()
    text = logging.Formatter("%(levelname)s %(asctime)s [%(name)s] %(message)s")
    handler.setFormatter(JsonFormatter() if options.log_format == "json" else text)
    level = options.uvicorn_log_level.upper()
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # At INFO jax tells which platforms a machine does not have, and fsspec of each file that it
    # opens; what they warn of is shown.
    for library in ("jax", "fsspec"):
        logging.getLogger(library).setLevel("WARNING" if level == "INFO" else "NOTSET")
