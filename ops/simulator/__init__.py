"""A stand-in for the upstream API: real HTTP, real pacing, scripted faults, predictable answers.

::

    async with Simulator(gap=0.02) as simulator:
        simulator.play(Script(tokens=50, fault=Fault(kind="reset", event=10)))
        ...  # send requests to simulator.url
        expected = predict(request, script=...).messages[0]
"""

from ops.simulator.answer import Answer, Choice, predict
from ops.simulator.body import render
from ops.simulator.script import Fault, Script, ToolCall
from ops.simulator.server import Simulator
from ops.simulator.stats import Stats
from ops.simulator.thread import SimulatorThread

__all__ = [
    "Answer",
    "Choice",
    "Fault",
    "Script",
    "Simulator",
    "SimulatorThread",
    "Stats",
    "ToolCall",
    "predict",
    "render",
]
