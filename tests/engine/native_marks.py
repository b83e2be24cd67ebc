"""For the tests of the native kernels."""

import pytest

from hugging_llama.engine.native.library import library

needs_kernels = pytest.mark.skipif(library() is None, reason="no native kernels: no compiler, or another processor")
