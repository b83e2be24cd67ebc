"""Pure text state machines, fed piece by piece; they know neither wire nor model."""
