"""`python -m serving` is `jaxpool serve`."""

from serving.server import main

main()
