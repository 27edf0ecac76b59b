"""The HTTP shell: validate, `await queue.submit(...)`, shape the answer."""
