"""jaxpool's models in the shapes that other libraries ask for."""
