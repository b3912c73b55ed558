"""virtio-serial: the console device and its ports.  Virtio 1.2, section 5.3.

    device_add virtio-serial-device id=vs0 bus=…        the device, a bus for ports
    device_add virtconsole bus=vs0.0 chardev=con        a console: the guest's hvc0 and so on
    device_add virtserialport bus=vs0.0 chardev=… name=org.x      a port: /dev/virtio-ports/org.x

Queues: 0 and 1 to and from port 0, 2 and 3 the control messages, then two a port.  With max_ports=1 there is one console
and no control queue.  Ports come and go while the machine runs.  A guest's output waits in its ring while the chardev
takes nothing.

Left out: the console's size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any, ClassVar

from ratite.core.backends.chardev import CLOSED, OPENED
from ratite.core.bus import Bus, BusDevice
from ratite.core.objects.props import Prop, config, debug, link, state
from ratite.hw.virtio.bus import OnVirtioBus
from ratite.hw.virtio.device import VirtioDevice
from ratite.qapi.errors import GenericError

if TYPE_CHECKING:
    from ratite.core.backends.chardev import Chardev, Line
    from ratite.hw.virtio.queue import Chain, Queue

SERIAL_BUS = "virtio-serial-bus"

F_MULTIPORT, F_EMERG_WRITE = 1 << 1, 1 << 2
DEVICE_READY, PORT_ADD, PORT_REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN, PORT_NAME = range(8)

QUEUE_SIZE = 128
EMERG_WR = 8  # offset in the configuration space
CHUNK = 1 << 16  # bytes of output taken at once
BUDGET = 1 << 20  # bytes of output taken at one kick
AUTO = 0xFFFFFFFF  # a port's number is chosen

_CONTROL = Struct("<IHH")
_CONFIG = Struct("<HHII")


class VirtioSerialBus(Bus):
    """Bus of a virtio-serial device's ports; they may come and go."""

    TYPE: ClassVar[str] = SERIAL_BUS
    PORTS: ClassVar[bool] = True

    def hotplug_refusal_of(self, device: BusDevice, props: Mapping[str, Any]) -> str:
        return ""


class VirtioSerial(VirtioDevice):
    """The console device, on whatever transport."""

    ABSTRACT: ClassVar[bool] = True
    DEVICE_ID: ClassVar[int] = 3

    max_ports = config("uint32", 31, "most ports that it takes", minimum=1, maximum=31, name="max_ports")
    emergency_write = config("bool", True, "offer VIRTIO_CONSOLE_F_EMERG_WRITE", name="emergency-write")

    driver_ready: int = state("uint8", 0, "whether the driver has asked for the ports")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.ports: dict[int, SerialPort] = {}
        self._plugged: list[SerialPort] = []
        # What is to be told when the driver gives a buffer; the newest of each kind for each port.
        self._messages: dict[tuple[int, int], bytes] = {}

    def make_parts(self) -> None:
        super().make_parts()
        self.add_child(VirtioSerialBus(f"{self.id}.0"))

    # -- what a device is

    def queue_sizes(self) -> Sequence[int]:
        return [QUEUE_SIZE] * (2 if self.max_ports == 1 else 2 * (int(self.max_ports) + 1))

    def offered(self) -> int:
        return (F_MULTIPORT if self.max_ports > 1 else 0) | (F_EMERG_WRITE if self.emergency_write else 0)

    def make_config(self) -> bytearray:
        return bytearray(_CONFIG.pack(0, 0, self.max_ports, 0))

    def config_written(self, offset: int, data: bytes) -> None:
        port = self.ports.get(0)
        if offset == EMERG_WR and self.emergency_write and port is not None and port.line is not None:
            port.line.write(data[:1])

    @property
    def multiport(self) -> bool:
        """Whether the driver knows of more than one port."""
        return bool(self.driver_features & F_MULTIPORT)

    def started(self) -> None:
        if not self.multiport:
            for port in self.ports.values():
                port.accept_input()

    def stopped(self) -> None:
        self.driver_ready = 0
        self._messages.clear()
        for port in self.ports.values():
            port.driver_gone()

    # -- ports

    def plug(self, port: SerialPort) -> None:
        """`port` will be one of the device's."""
        self._plugged.append(port)

    def unplug(self, port: SerialPort) -> None:
        """It won't."""
        if port in self._plugged:
            self._plugged.remove(port)

    def add_port(self, port: SerialPort) -> int:
        """The port comes into use; gives its number.  GenericError in QEMU's words."""
        number = self._number(port)
        self.ports[number] = port
        if self.driver_ready:
            self.tell(number, PORT_ADD, 1)
        return number

    def _number(self, port: SerialPort) -> int:
        wanted = {int(other.nr) for other in self._plugged if other.nr != AUTO and other is not port}
        first = 0 if port.CONSOLE else 1
        if port.name and any(other.name == port.name for other in self.ports.values()):
            raise GenericError(f"virtio-serial-bus: A port already exists by name {port.name}")
        if port.nr == AUTO:
            for number in range(first, int(self.max_ports)):
                if number not in self.ports and number not in wanted:
                    return number
            raise GenericError("virtio-serial-bus: Maximum port limit for this device reached")
        if port.nr < first:
            raise GenericError(
                "Port number 0 on virtio-serial devices reserved for virtconsole devices for backward compatibility."
            )
        if port.nr in self.ports:
            raise GenericError(f"virtio-serial-bus: A port already exists at id {port.nr}")
        if port.nr >= self.max_ports:
            raise GenericError(f"virtio-serial-bus: Out-of-range port id specified, max. allowed: {self.max_ports - 1}")
        return int(port.nr)

    def remove_port(self, port: SerialPort) -> None:
        """The port goes."""
        if self.ports.get(port.number) is port:
            del self.ports[port.number]
            if self.driver_ready:
                self.tell(port.number, PORT_REMOVE, 1)

    def port_queue(self, number: int, output: int) -> Queue | None:
        """The queue of a port, 0 for what it reads (input), 1 for what it writes, if it is in use."""
        index = output if number == 0 else 2 * (number + 1) + output
        if not self.running or index >= len(self.queues) or not self.queues[index].ready:
            return None
        return self.queues[index]

    # -- queues

    def handle(self, queue: Queue) -> None:
        index = queue.index
        if index == 2 and self.multiport:
            self._send_messages()
        elif index == 3 and self.multiport:
            self._control(queue)
        else:
            port = self.ports.get(0 if index < 2 else index // 2 - 1)
            if port is not None and index & 1:
                port.output(queue)
            elif port is not None:
                port.accept_input()
            elif index & 1:
                self._drop(queue)

    def _drop(self, queue: Queue) -> None:
        """Output to a port that isn't there."""
        for chain in self.chains(queue):
            queue.push(chain, 0)
        self.interrupt(queue)

    def _control(self, queue: Queue) -> None:
        assert self.dma is not None
        for chain in self.chains(queue):
            data = chain.read(self.dma, 0, _CONTROL.size)
            queue.push(chain, 0)
            if len(data) == _CONTROL.size:
                self._message(*_CONTROL.unpack(data))
        self.interrupt(queue)

    def _message(self, number: int, event: int, value: int) -> None:
        if event == DEVICE_READY:
            self.driver_ready = value & 1
            for each in sorted(self.ports) if value else ():
                self.tell(each, PORT_ADD, 1)
            return
        port = self.ports.get(number)
        if port is None:
            return
        if event == PORT_READY and value:
            if port.CONSOLE:
                self.tell(number, CONSOLE_PORT, 1)
            if port.name:
                self.tell(number, PORT_NAME, 1, port.name.encode("utf-8", "replace") + b"\0")
            if port.host_open:
                self.tell(number, PORT_OPEN, 1)
        elif event == PORT_OPEN:
            port.driver_opened(bool(value))

    def tell(self, number: int, event: int, value: int, more: bytes = b"") -> None:
        """A control message to the driver, now or when it gives a buffer."""
        if self.multiport:
            self._messages.pop((number, event), None)
            self._messages[number, event] = _CONTROL.pack(number, event, value) + more
            self.guarded(self._send_messages)

    def _send_messages(self) -> None:
        queue = self.queues[2]
        if not self.running or not queue.ready or not self._messages:
            return
        assert self.dma is not None
        for chain in self.chains(queue):
            key = next(iter(self._messages))
            queue.push(chain, chain.write(self.dma, 0, self._messages.pop(key)))
            if not self._messages:
                break
        self.interrupt(queue)


class SerialPort(BusDevice):
    """A port of a virtio-serial device."""

    TYPE: ClassVar[str] = "virtio-serial-port"
    ABSTRACT: ClassVar[bool] = True
    BUS: ClassVar[str] = SERIAL_BUS
    CONSOLE: ClassVar[bool] = False

    chardev: Chardev | None = link("chardev", "the other end of the line", optional=True)
    nr = config("uint32", AUTO, "number of the port (default: the first that is free)")
    name = config("str", "", "name that the guest sees")

    driver_open = state("bool", False, "whether the guest has the port open")
    sent_bytes = debug("uint64", 0, "bytes that were given to the chardev")

    def __init__(self, id: str) -> None:
        super().__init__(id)
        self.number = 0
        self.line: Line | None = None
        # From wired on.
        self.device: VirtioSerial | None = None
        self.host_open = False
        # Input: the buffer that was looked at; output: what the chardev hasn't taken yet, and how much of it it has.
        self._buffer: Chain | None = None
        self._stalled: Chain | None = None
        self._taken = 0
        self._budget = 0

    def given_as(self, prop: Prop) -> Any:
        """As Obj's, with the number that was found."""
        return self.number if prop.name == "nr" and self.phase == "realized" else super().given_as(prop)

    # -- life cycle

    def wire(self) -> None:
        super().wire()
        if self.bus is not None:
            self.device = self.bus.parent
            self.bus.parent.plug(self)

    def unwire(self) -> None:
        if self.device is not None:
            self.device.unplug(self)
            self.device = None
        super().unwire()

    def realize(self) -> None:
        super().realize()
        self.host_open = self.CONSOLE or self.chardev is None
        if self.device is not None:
            self.number = self.device.add_port(self)
        if self.chardev is not None:
            try:
                self.chardev.attach(self)
                self._show_open()
            except GenericError:
                self._leave()
                raise

    def unrealize(self) -> None:
        if self.line is not None:
            self.line.detach()
            self.line = None
        self._leave()
        super().unrealize()

    def _leave(self) -> None:
        if self.device is not None:
            self.device.remove_port(self)
        self._drop()

    def reset(self) -> None:
        super().reset()
        self.driver_gone()

    def _drop(self) -> None:
        self._buffer = self._stalled = None
        self._taken = 0

    # -- the device's side

    def driver_gone(self) -> None:
        """The device was reset or stopped."""
        self._drop()
        self.driver_opened(False)

    def driver_opened(self, opened: bool) -> None:
        """The guest opened or closed the port."""
        if opened != self.driver_open:
            self.driver_open = opened
            if not self.CONSOLE:
                self._show_open()
                self.machine.emit("VSERPORT_CHANGE", id=self.id, open=opened)
        if opened:
            self.accept_input()

    def accept_input(self) -> None:
        """There may be room for input."""
        if self.line is not None:
            self.line.accept_input()

    def _show_open(self) -> None:
        if self.line is not None:
            self.line.set_open(self.CONSOLE or bool(self.driver_open))

    def output(self, queue: Queue) -> None:
        """The guest has given output.  May raise QueueError and DmaError."""
        assert self.device is not None
        self._budget = BUDGET
        for chain in self._outputs(queue):
            if not self._write(chain):
                self._stalled = chain
                break
            queue.push(chain, 0)
        self.device.interrupt(queue)
        if self._stalled is not None and self._budget <= 0:
            self.device.notify_soon(queue.index)

    def _outputs(self, queue: Queue) -> Iterator[Chain]:
        """What waits, then what is new."""
        assert self.device is not None
        stalled, self._stalled = self._stalled, None
        if stalled is not None and stalled.epoch == queue.epoch:
            yield stalled
        else:
            self._taken = 0
        yield from self.device.chains(queue)

    def _write(self, chain: Chain) -> bool:
        """Hands a chain's bytes to the chardev; False when it took not all."""
        assert self.device is not None and self.device.dma is not None
        while self._taken < chain.out_size:
            data = chain.read(self.device.dma, self._taken, CHUNK)
            taken = len(data) if self.line is None else self.line.write(data)
            self.sent_bytes += taken
            self._taken += taken
            self._budget -= taken
            if taken < len(data):
                return False
            if self._budget <= 0:
                return False
        self._taken = 0
        return True

    # -- the chardev's side

    def chr_can_receive(self) -> int:
        """Bytes that the guest's next buffer takes."""
        device = self.device
        if device is None:
            return 0
        if self._buffer is None or self._buffer.epoch != self._buffer.queue.epoch:
            self._buffer = None
            if not device.multiport or self.driver_open:
                device.guarded(self._next_buffer)
        return 0 if self._buffer is None else self._buffer.in_size

    def _next_buffer(self) -> None:
        queue = None if self.device is None else self.device.port_queue(self.number, 0)
        if queue is not None and self.device is not None:
            for chain in self.device.chains(queue):
                if chain.in_size:
                    self._buffer = chain
                    break
                queue.push(chain, 0)

    def chr_receive(self, data: bytes) -> None:
        """Bytes for the guest."""
        chain, self._buffer = self._buffer, None
        if chain is not None and self.device is not None:
            self.device.guarded(lambda: self._fill(chain, data))

    def _fill(self, chain: Chain, data: bytes) -> None:
        assert self.device is not None and self.device.dma is not None
        chain.queue.push(chain, chain.write(self.device.dma, 0, data))
        self.device.interrupt(chain.queue)

    def chr_event(self, name: str) -> None:
        """The peer came or went."""
        if name in (OPENED, CLOSED) and not self.CONSOLE:
            self.host_open = name == OPENED
            if self.device is not None and self.device.driver_ready:
                self.device.tell(self.number, PORT_OPEN, int(self.host_open))

    def chr_changed(self, chardev: Chardev) -> None:
        """Another chardev takes the place of the line's (chardev-change)."""
        self.chardev = chardev

    def chr_writable(self) -> None:
        """The chardev takes bytes again."""
        if self._stalled is not None and self.device is not None:
            queue = self.device.port_queue(self.number, 1)
            if queue is not None:
                self.device.guarded(lambda: self.output(queue))


class VirtConsole(SerialPort):
    """Console port of a virtio-serial device.  Virtio 1.2, section 5.3."""

    TYPE: ClassVar[str] = "virtconsole"
    CONSOLE: ClassVar[bool] = True


class VirtSerialPort(SerialPort):
    """Serial port of a virtio-serial device.  Virtio 1.2, section 5.3."""

    TYPE: ClassVar[str] = "virtserialport"


class VirtioSerialDevice(OnVirtioBus, VirtioSerial):
    """Console device: a bus for consoles and serial ports.  Virtio 1.2, section 5.3."""

    TYPE: ClassVar[str] = "virtio-serial-device"
