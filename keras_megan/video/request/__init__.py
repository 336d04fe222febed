"""What a user asks for: sizes, rates, inputs and outputs."""
