"""The CPU block: one piece of host memory that generated code reaches through one pointer.

The pointer stands ``BASE`` bytes into the block. Below it lie the engine's own words, hottest nearest; from offset 0 the
ISA's registers (``StateLayout``), then the TLBs, the code TLBs, known pages of code and the scratch records. Offsets are
signed distances from the pointer. Words are 8 bytes unless said.
"""

from __future__ import annotations

from ratite.core.engine.compiler import host_fma
from ratite.core.isa.isa import Isa

BASE = 0x400

EXIT_REQUEST = -8  # 4 bytes: [0] leave, [1] look at interrupts, [2] service; each set by others, cleared by its reader
IRQ_LINES = -16  # a bit per input line
TLB_DATA = -24  # host address of the TLB of the mode in which data accesses are translated now
TLB_CODE = -32  # … of the code TLB of the mode of fetches
EXC = -40  # kind of a memory fault under way, else 0
EXC_ADDR = -48
PC = -56
BUDGET = -64
REASON = -72
ARGS = -104  # four words: arguments of a routine
CTX = -112  # number of the execution context at PC
RESERVED_ADDR = -120
RESERVED_VALUE = -128
RESERVED_SIZE = -136  # 0: no reservation
TRAP_MARK = -144  # LIMIT - budget at the last trap entry: how far the CPU had come
TRAP_PC = -152  # where it went
MEMMAP = -160  # address of the memory map table
MEMMAP_COUNT = -168
ON_CODE_MISS = -192  # u64 (block, physical addr): address of the page's records, 0: nothing to fetch
ON_CODE_WRITE = -200  # void (block, physical addr, size): a store hit a page that holds decoded code
STORES_BESIDE = -208  # stores into lines without code of pages with code
TRAPS = -216  # traps taken
LIMIT = -224  # executed = LIMIT - budget - TRAPS
RESERVED_HOST = -232  # host address of the reservation
MODE_DATA = -240  # number of the mode of data accesses
MODE_CODE = -248  # … of fetches
MAP_ALLOWED = -256  # of the last translation: what it allows, log2 of its size
MAP_BITS = -264
TLB_USED = -272  # a bit per mode that was filled since the last flush
LARGE_LOW = -280  # virtual addresses between these may be in mappings larger than a page
LARGE_HIGH = -288
ON_CLOCK = -296  # u64 (block): nanoseconds of virtual time
ON_NOTIFY = -304  # void (block, number, value)
CLOCK_GETTIME = -312  # address of the C library's, 0: ask ON_CLOCK
CLOCK_OFFSET = -320  # monotonic clock minus virtual time
TIMESPEC = -336  # two words
TABLE = -520  # tier 0's functions, for regions: see Tier0.text
HOT_AT = -528  # arrivals at a place after which ON_HOT is called, once; 0: never
ON_HOT = -536  # void (block, record, pc)
REGION_INSNS = -544  # instructions executed in regions
MXCSR = -552  # the guest's rounding mode as the host's, no flags
MXCSR_HOST = -560  # the host's own
MXCSR_NOW = -568  # as it was read last
ON_ASK = -576  # u64 (block, number, value)
ON_LOAD = -608  # four words, for 1, 2, 4 and 8 bytes: u64 (physical addr)
ON_STORE = -640  # four words: void (physical addr, value)
CAME_FROM, CAME_TO = -648, -656  # the last jump to a computed address in tier 0
WINDOWED = -664  # a bit per mode that had windows since translation changed
SCHED_YIELD = -672  # address of the C library's
STRIPE = -688  # which of a region's counters are this CPU's: bytes from their start
RELAXED = -680  # times that the guest said it waits for another CPU
PROBING = -696  # not 0: a walk is to change nothing, and to refuse where it would have to

BESIDE_TOLD = 1 << 10  # so many of them go by before the host is told of one: the page may have become data

# A region's counters, instructions and deopts, once for each of so many CPUs, in cache lines of their own: harts that run one
# region on two cores would pass a common line to and fro at each exit.
STRIPES = 8
STRIPE_SIZE = 64

RELAX_EACH = 1 << 5  # so many of them are spun through before the host may run another thread

LEAVE, LOOK, SERVICE = 0, 1, 2  # bytes of EXIT_REQUEST

# reasons
KICKED, HALTED, OUT_OF_BUDGET, PANICKED, FLUSH, SERVED = 1, 2, 3, 4, 5, 6

RESERVED_WORD = -344  # what the line's reservation said when it was taken
YOUNG = -360  # not 0: code was decoded that may have missed a store
LINE_WORD = -352  # address of the reservations' word of the line that ``ram`` found last

# memory map rows: start, last, addend (host - guest), addresses of the code marks (counts of pages, marks of lines) of the
# row's first page, flags, address of the reservations of the row's first page
MAP_ROW = 56
MAP_READONLY = 1

TLB_ENTRIES = 256
TLB_ENTRY = 32  # virtual page for reads, for writes (all ones: none), addend (host - virtual), addend (host address of the
# reservations' word - 2 * virtual line)
# Behind a mode's TLB, where the whole space of addresses maps to itself: one range of RAM for reads and one, free of code, for
# writes. (floor, high, host address of high) each: ``a`` is inside if a - high is above floor, both unsigned; the last 64 bytes
# of the RAM are not, so that any access that starts inside is. All ones: none.
WINDOW_READ, WINDOW_WRITE = 0, 24
WINDOW_LINES = 48  # host address of the reservations' word of the write range's high
WINDOW = 64
WINDOW_LAST = 64  # bytes at the end that are not in it
WINDOW_SMALL = 64 << 10  # bytes; a smaller one for writes gives way to a larger
CODE_TLB_ENTRIES = 256
CODE_TLB_ENTRY = 32  # virtual page, its records, physical page, -
HEAT = 1024  # counters of 4 bytes; a place's is the one that heat_slot says
HEAT_FACTOR = 0x9E3779B97F4A7C15
CODE_PAGES = 4096
CODE_PAGE = 16  # physical page, its records

RECORD = 16  # handler, imm (4), a, b, c, d (1 each)
REGION_ADDRESS = 1 << 32  # words of a page's side array from here on are addresses of regions, below it they count

PAGE_HEADER = 64  # before a page's records: host addresses of [0] the page's bytes, [8] its lines' code marks


def heat_slot(side: int) -> int:
    """Which of the HEAT counters takes the arrivals at the place whose word of the side array is at host address ``side``."""
    return (side * HEAT_FACTOR & (1 << 64) - 1) >> 65 - HEAT.bit_length()


class Shape:
    """Distances that depend on the ISA: ``shift`` (record address >> shift advances as pc does), record arrays of a page
    (one per context, each with edge records behind it), places of the tables in the block, sizes in bytes.
    ``fma``: whether code may use the host's fused multiply-add; the host is asked unless told."""

    def __init__(self, isa: Isa, fma: bool | None = None) -> None:
        self.host_fma = isa.fp is not None and (host_fma() if fma is None else fma)
        per_parcel = RECORD // isa.parcel
        self.shift = per_parcel.bit_length() - 1
        self.page = 1 << isa.page_bits
        longest = max([isa.default_length, *(n for _, _, n in isa.lengths)])
        self.slots = self.page // isa.parcel
        self.edges = longest // isa.parcel
        self.array = (self.slots + self.edges) * RECORD
        self.records = self.array * len(isa.contexts)
        self.side = self.slots * 8  # behind the records: a word per parcel, of the normal context
        self.modes = max(1, isa.mmu_modes)
        self.tlb = isa.layout.size
        self.window = TLB_ENTRIES * TLB_ENTRY  # from a mode's TLB to its windows
        self.tlb_size = self.window + WINDOW  # of one mode
        self.code_tlb = self.tlb + self.modes * self.tlb_size
        self.code_tlb_size = CODE_TLB_ENTRIES * CODE_TLB_ENTRY
        self.code_pages = self.code_tlb + self.modes * self.code_tlb_size  # records by physical page
        self.heat = self.code_pages + CODE_PAGES * CODE_PAGE  # arrivals at places that are hot already, see HEAT
        self.scratch = self.heat + HEAT * 4
        self.scratch_records = 1 + self.edges
        # as far apart as a page's arrays, so that a change of context works there too
        self.size = BASE + self.scratch + self.context_offset(len(isa.contexts) - 1) + self.scratch_records * RECORD

    def context_offset(self, index: int) -> int:
        """Bytes from a page's records in the normal context to those in context ``index``."""
        return self.array * index
