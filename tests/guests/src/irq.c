/* Twenty timer interrupts, a millisecond apart, sleeping in between; then the lines are counted. */
#include "guest.h"

#define TICKS 20

static volatile u32 ticks, strays;

#ifdef __riscv
static void arm(u64 when)
{
    put32(MTIMECMP + 4, 0xffffffff);
    put32(MTIMECMP, (u32)when);
    put32(MTIMECMP + 4, (u32)(when >> 32));
}

static u64 now(void)
{
    u32 high, low;
    do {
        high = get32(MTIME + 4);
        low = get32(MTIME);
    } while (get32(MTIME + 4) != high);
    return (u64)high << 32 | low;
}

void trap(uptr cause, uptr pc, uptr value)
{
    (void)pc;
    (void)value;
    if (cause == ((uptr)1 << (sizeof(uptr) * 8 - 1) | 7))
        ticks++;
    else
        strays++;
    arm(now() + TIMER_HZ / 1000);
}

static void start(void)
{
    arm(now() + TIMER_HZ / 1000);
    asm volatile("csrs mie, %0" :: "r"(1u << 7));
}

static void stop(void)
{
    asm volatile("csrc mie, %0" :: "r"(1u << 7));
}
#else
void interrupt(void)
{
    u32 pending = get32(XPS_INTC + 4);
    if (pending == 1u << TIMER_LINE)
        ticks++;
    else
        strays++;
    put32(XPS_TIMER, get32(XPS_TIMER));         /* TINT is cleared by writing it back */
    put32(XPS_INTC + 12, pending);
}

static void start(void)
{
    put32(XPS_TIMER + 4, 50000);                /* a millisecond at 50 MHz */
    put32(XPS_TIMER, 0x20);                     /* LOAD0 */
    put32(XPS_TIMER, 0x80 | 0x40 | 0x10 | 0x02);/* ENT0, ENIT0, ARHT0, down */
    put32(XPS_INTC + 8, 1u << TIMER_LINE);
    put32(XPS_INTC + 28, 3);
}

static void stop(void)
{
    put32(XPS_TIMER, 0x100);
    put32(XPS_INTC + 28, 0);
}
#endif

int main(void)
{
    put_text("irq\n");
    start();
    while (ticks < TICKS) {
        irq_off();
        if (ticks < TICKS)
            sleep();
        irq_on();
    }
    irq_off();
    stop();
    put_text("ticks ");
    put_dec(ticks);
    put_text(" strays ");
    put_dec(strays);
    put_text("\n");
    finish(ticks != TICKS || strays);
}
