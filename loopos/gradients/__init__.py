"""What :func:`loopos.gradcheck` is made of: differences, the check of arrays, the check of a model, the report."""
