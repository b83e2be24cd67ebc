"""The wire between the web workers and the engine process."""
