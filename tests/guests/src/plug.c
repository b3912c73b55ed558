/* Hart 0 tells what hart 1 does, which was plugged while it ran: it starts at `second`, waits for a software interrupt ("m"), then
 * for its timer. "q" ends. */
#include "guest.h"

#define MSIP 0x02000000u
#define WAIT (TIMER_HZ / 100)

static volatile u32 step, seen;
u64 second_stack[256];

static u32 pending(u32 bit)
{
    uptr found;
    asm volatile("csrr %0, mip" : "=r"(found));
    return found >> bit & 1;
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
    (void)cause;
    (void)pc;
    (void)value;
    finish(1);
}

__attribute__((noreturn)) void second_main(void)
{
    step = 1;
    barrier();
    asm volatile("csrs mie, %0" :: "r"(1u << 3 | 1u << 7));
    while (!pending(3))
        sleep();
    put32(MSIP + 4, 0);
    step = 2;
    while (seen != 2)
        barrier();
    u64 when = now() + WAIT;
    put32(MTIMECMP + 12, 0xffffffff);
    put32(MTIMECMP + 8, (u32)when);
    put32(MTIMECMP + 12, (u32)(when >> 32));
    while (!pending(7))
        sleep();
    step = now() < when ? 4 : 3;
    barrier();
    asm volatile("csrc mie, %0" :: "r"(1u << 3 | 1u << 7));
    for (;;)
        sleep();
}

asm(".globl second\nsecond:\n\tla sp, second_stack + 2048\n\tj second_main");
void second(void);

int main(void)
{
    static const char *const told[] = {"alone\n", "up\n", "soft\n", "timer\n", "early\n"};
    put_hex32((u32)(uptr)second);
    put_text("\n");
    put_text(told[0]);
    for (;;) {
        u32 at = step;
        if (at != seen) {
            put_text(told[at]);
            seen = at;
        }
        int typed = get_char();
        if (typed == 'm')
            put32(MSIP + 4, 1);
        if (typed == 'n')
            step = 0;
        if (typed == 'q')
            finish(0);
    }
}
