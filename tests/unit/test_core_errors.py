"""`core.errors`: one tree, as its module draws it."""

import inspect

from flux_endpoint.core import errors


def test_every_error_is_in_the_tree_and_in_its_drawing():
    classes = [each for _, each in inspect.getmembers(errors, inspect.isclass)]
    assert all(issubclass(each, errors.FluxEndpointError) for each in classes)
    assert all(each.__name__ in errors.__doc__ for each in classes)


def test_a_wrong_parameter_names_its_field_and_problem():
    error = errors.InvalidParameter("width", "must be an integer")
    assert error.field == "width"
    assert str(error) == "Invalid parameter: width must be an integer"
