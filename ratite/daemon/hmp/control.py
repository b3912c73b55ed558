"""Commands of the human monitor that change something; each is the QMP command of the same name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ratite.daemon.commands.qom import object_properties
from ratite.daemon.hmp.line import HmpError
from ratite.daemon.settings import read_settings

if TYPE_CHECKING:
    from ratite.daemon.hmp.line import Line


def cont(line: Line) -> str:
    """cont"""
    line.ctx.machine.cont()
    return ""


def stop(line: Line) -> str:
    """stop"""
    line.ctx.machine.stop()
    return ""


def system_reset(line: Line) -> str:
    """system_reset"""
    line.ctx.machine.reset()
    return ""


def system_powerdown(line: Line) -> str:
    """system_powerdown"""
    line.ctx.machine.powerdown()
    return ""


def quit_daemon(line: Line) -> str:
    """quit"""
    daemon = line.ctx.daemon
    daemon.bridge.call_on_loop(daemon.shutdown, "host-qmp-quit")
    return ""


def device_add(line: Line) -> str:
    """device_add DRIVER,id=ID[,PROP=VALUE]..."""
    driver, properties = read_settings(line.words(1)[0], line.ctx.daemon.registry)
    name = properties.pop("id", None)
    if name is None:
        raise HmpError("Error: Parameter 'id' is missing")
    line.ctx.machine.device_add(driver, name, properties)
    return ""


def device_del(line: Line) -> str:
    """device_del ID"""
    line.ctx.machine.device_del(line.words(1)[0])
    return ""


def object_del(line: Line) -> str:
    """object_del ID"""
    line.ctx.machine.delete_object(line.words(1)[0])
    return ""


def qom_list(line: Line) -> str:
    """qom-list [PATH]"""
    rows = object_properties(line.ctx.machine.resolve(line.rest or "/"))
    return "".join(f"{row['name']} ({row['type']})\n" for row in rows)


def qom_get(line: Line) -> str:
    """qom-get PATH PROPERTY"""
    path, name = line.words(2)
    return json.dumps(line.ctx.machine.get_property(path, name)) + "\n"


def qom_set(line: Line) -> str:
    """qom-set PATH PROPERTY VALUE, the value in JSON or, if it is none, as text"""
    path, name, text = line.words(3)
    try:
        value: object = json.loads(text)
    except ValueError:
        value = text
    line.ctx.machine.set_property(path, name, value)
    return ""
