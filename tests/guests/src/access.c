/* Accesses to a device and interrupts from it, for measuring: reads a register of the UART many times, in groups whose time it takes,
   then computes for good. An interrupt of the UART sends the byte that came in back; one of the line that the client raises tells
   how long ago that was. rv64, UART on the external line, the client's line in place of the software interrupt; `time` in ns. */
#include "guest.h"

#define GROUPS 2000u
#define READS 100u
#define UART ((uptr)UART_16550)
#define SOURCE ((uptr)0x10010000u)
#define LINE SOURCE
#define RAISED (SOURCE + 8)

static inline u64 now(void)
{
    u64 t;
    asm volatile("rdtime %0" : "=r"(t) :: "memory");
    return t;
}

void trap(uptr cause, uptr pc, uptr value)
{
    u64 at = now();
    (void)pc;
    (void)value;
    if ((cause & 0xff) == 3) {
        u64 raised = *(volatile u64 *)RAISED;
        put32(LINE, 0);
        put_text("raised ");
        put_dec((u32)(at - raised));
        put_text("\n");
        return;
    }
    put8(UART, get8(UART));
}

static volatile u32 sink;
static u32 times[GROUPS];

static void sort(u32 *a, u32 n)
{
    for (u32 gap = n / 2; gap; gap /= 2)
        for (u32 i = gap; i < n; i++) {
            u32 v = a[i], k = i;
            for (; k >= gap && a[k - gap] > v; k -= gap)
                a[k] = a[k - gap];
            a[k] = v;
        }
}

int main(void)
{
    u32 sum = 0;
    put8(UART + 7, 0x5a);
    put_text("@@START\n");
    for (u32 g = 0; g < GROUPS; g++) {
        u64 before = now();
        for (u32 i = 0; i < READS; i++)
            sum += get8(UART + 7);
        times[g] = (u32)(now() - before);
    }
    put_text("mmio ");
    put_dec(sum);
    put_text("\n");
    sort(times, GROUPS);
    put_text("group ");
    put_dec(times[GROUPS / 2]);
    put_text("\n@@DONE ");
    put_hex32(sum);
    put_text("\n");
    put8(UART + 1, 1);                          /* an interrupt when a byte is there */
    asm volatile("csrs mie, %0" :: "r"(1u << 11 | 1u << 3));
    irq_on();
    for (;;)
        for (u32 i = 0; i < 1000000; i++)
            sink = sink * 1664525u + i;
}
