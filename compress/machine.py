"""The machine that figures are taken on."""

from edgeloop.machine import describe_machine as describe_machine
