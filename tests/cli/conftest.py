"""What tests of the command line share."""

import re

import pytest


@pytest.fixture
def assert_sentence():
    """A function that looks whether an answer is one line on stderr, without traceback."""

    def check(answer, wanted, code=2):
        assert answer.code == code, answer
        assert answer.out == ""
        assert re.fullmatch(r"resnetlab: [^\n]*\n", answer.err), answer.err
        assert re.search(wanted, answer.err), answer.err
        assert "Traceback" not in answer.err

    return check
