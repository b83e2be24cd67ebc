"""What `hugging-llama doctor` looks at: one function a check, each of which gives findings and changes nothing."""
