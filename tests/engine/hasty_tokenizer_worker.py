"""The worker that reads tokenizers of strangers, with limits that tests choose."""

import os

from hugging_llama.engine import tokenizer_worker

tokenizer_worker.LONGEST_S = float(os.environ["LONGEST_S"])
tokenizer_worker.MOST_BYTES = int(os.environ["MOST_BYTES"])
tokenizer_worker.main()
