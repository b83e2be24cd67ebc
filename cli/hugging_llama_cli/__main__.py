"""`python -m hugging_llama_cli`."""

import sys

from hugging_llama_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
