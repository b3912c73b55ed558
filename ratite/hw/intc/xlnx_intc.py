"""xlnx.xps-intc: interrupt controller after Xilinx DS572 (AXI INTC) in its normal mode.

Modelled: up to 32 inputs, each edge or level (`kind-of-intr`, bit set: edge), ISR, IPR, IER, IAR, SIE, CIE, IVR, MER.
An input is latched into ISR (edge: when it rises; level: while it is high) and stays until it is acknowledged; a level
input that is still high then is latched again. Software may write ISR until MER.HIE is set, which can't be undone;
before that, inputs don't reach ISR.

Left out: fast interrupt mode (IMR, IVAR, IVEAR), nested interrupts (ILR), cascade, falling-edge and low-active inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from ratite.core.device import MmioDevice, Window
from ratite.core.fdt import DeviceTree
from ratite.core.irq import Input
from ratite.core.objects.props import config, state
from ratite.core.regs import Reg

ME, HIE = 1, 2
NONE = 0xFFFFFFFF  # IVR while nothing is pending


class XlnxIntc(MmioDevice):
    """AXI interrupt controller.  Xilinx DS572."""

    TYPE: ClassVar[str] = "xlnx.xps-intc"
    INPUTS: ClassVar[Mapping[str, int | str]] = {"irq": "num-intr-inputs"}
    OUTPUTS: ClassVar[Mapping[str, int | str]] = {"irq": 1}
    REGIONS: ClassVar[Mapping[str, Window]] = {"regs": Window(0x1000, (1, 4), (4, 4), "endianness")}

    FROM_FDT: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {
            "compatible": ["xlnx,xps-intc-1.00.a", "xlnx,opb-intc-1.00.c"],
            "properties": {
                "kind-of-intr": "xlnx,kind-of-intr",
                "num-intr-inputs": "xlnx,num-intr-inputs",
                "endianness": {"guest-endianness": True},
            },
            "inputs": "irq",
            "root": ["irq", "irq"],
        },
    )

    kind_of_intr = config("uint32", 0, "bit n set: input n is edge triggered, else level")
    num_intr_inputs = config("uint8", 32, "number of inputs", minimum=1, maximum=32)
    endianness = config("str", "little", "byte order of the registers", values=("little", "big"))

    ISR = Reg(0x00, text="interrupt status")
    IPR = Reg(0x04, access="ro", saved=False, text="interrupt pending: ISR and IER")
    IER = Reg(0x08, text="interrupt enable")
    IAR = Reg(0x0C, access="wo", saved=False, text="interrupt acknowledge")
    SIE = Reg(0x10, access="wo", saved=False, text="set interrupt enables")
    CIE = Reg(0x14, access="wo", saved=False, text="clear interrupt enables")
    IVR = Reg(0x18, access="ro", saved=False, text="interrupt vector: number of the lowest pending input")
    MER = Reg(0x1C, reserved=0xFFFFFFFC, fields={"me": 0, "hie": 1}, text="master enable")

    lines: int = state("uint32", 0, "levels of the inputs")

    def wire(self) -> None:
        super().wire()
        self._irq = self.out("irq")
        self._all = (1 << self.num_intr_inputs) - 1

    def fdt_node(self, tree: DeviceTree) -> None:
        node = tree.node(self, "interrupt-controller", ("xlnx,xps-intc-1.00.a",))
        node["interrupt-controller"] = True
        node["#interrupt-cells"] = 2
        node["xlnx,kind-of-intr"] = self.kind_of_intr & self._all
        node["xlnx,num-intr-inputs"] = self.num_intr_inputs

    def fdt_interrupt(self, end: Input) -> Sequence[int]:
        return end.index, 0 if self.kind_of_intr >> end.index & 1 else 2  # rising edge, high level

    def reset(self) -> None:
        super().reset()
        self.lines = 0
        self.post_load()

    def post_load(self) -> None:
        self._update()

    def input_handler(self, name: str, index: int) -> Callable[[int], None]:
        return partial(self._line_changed, 1 << index)

    def _line_changed(self, bit: int, level: int) -> None:
        if level:
            rises = not self.lines & bit
            self.lines |= bit
            if self.MER & HIE and (rises or not self.kind_of_intr & bit):
                self.ISR |= bit
                self._update()
        else:
            self.lines &= ~bit

    def _latch_levels(self) -> None:
        if self.MER & HIE:
            self.ISR |= self.lines & ~self.kind_of_intr
        self._update()

    def _update(self) -> None:
        self._irq.set(self.MER & ME and self.ISR & self.IER)

    @ISR.on_write
    def _isr_written(self, value: int, old: int) -> None:
        self.ISR = old if self.MER & HIE else value & self._all
        self._update()

    @IPR.on_read
    def _ipr_read(self, value: int) -> int:
        return self.ISR & self.IER

    @IER.on_write
    def _ier_written(self, value: int, old: int) -> None:
        self.IER &= self._all
        self._update()

    @IAR.on_write
    def _iar_written(self, value: int, old: int) -> None:
        self.IAR = 0
        self.ISR &= ~value
        self._latch_levels()

    @SIE.on_write
    def _sie_written(self, value: int, old: int) -> None:
        self.SIE = 0
        self.IER |= value & self._all
        self._update()

    @CIE.on_write
    def _cie_written(self, value: int, old: int) -> None:
        self.CIE = 0
        self.IER &= ~value
        self._update()

    @IVR.on_read
    def _ivr_read(self, value: int) -> int:
        pending = self.ISR & self.IER
        return (pending & -pending).bit_length() - 1 if pending else NONE

    @MER.on_write
    def _mer_written(self, value: int, old: int) -> None:
        self.MER |= old & HIE
        self._latch_levels()
