/* Accesses to a device and interrupts from it, for measuring: reads a register of the UART many times, then computes for good and
   sends every byte that comes in back out of the interrupt handler. rv64, UART interrupt on the external line. */
#include "guest.h"

#define READS 200000u
#define UART ((uptr)UART_16550)

void trap(uptr cause, uptr pc, uptr value)
{
    (void)cause;
    (void)pc;
    (void)value;
    put8(UART, get8(UART));
}

static volatile u32 sink;

int main(void)
{
    u32 sum = 0;
    put8(UART + 7, 0x5a);
    put_text("@@START\n");
    for (u32 i = 0; i < READS; i++)
        sum += get8(UART + 7);
    put_text("mmio ");
    put_dec(sum);
    put_text("\n@@DONE ");
    put_hex32(sum);
    put_text("\n");
    put8(UART + 1, 1);                          /* an interrupt when a byte is there */
    asm volatile("csrs mie, %0" :: "r"(1u << 11));
    irq_on();
    for (;;)
        for (u32 i = 0; i < 1000000; i++)
            sink = sink * 1664525u + i;
}
