/* Powers off when the button at line 1 of the GPIO controller is pressed, which it hears of by an interrupt. */
#include "guest.h"

#define LINE 1

static volatile u32 presses, strays;

#ifdef __riscv
#define INPUT_VAL 0x00
#define INPUT_EN  0x04
#define RISE_IE   0x18
#define RISE_IP   0x1c

void trap(uptr cause, uptr pc, uptr value)
{
    (void)pc;
    (void)value;
    if (cause == ((uptr)1 << (sizeof(uptr) * 8 - 1) | 11) && get32(GPIO + RISE_IP) == 1u << LINE && get32(GPIO + INPUT_VAL) == 1u << LINE)
        presses++;
    else
        strays++;
    put32(GPIO + RISE_IP, get32(GPIO + RISE_IP));
}

static void start(void)
{
    put32(GPIO + INPUT_EN, 1u << LINE);
    put32(GPIO + RISE_IE, 1u << LINE);
    asm volatile("csrs mie, %0" :: "r"(1u << 11));
}
#else
#define DATA 0x000
#define GIER 0x11c
#define ISR  0x120
#define IER  0x128

void interrupt(void)
{
    u32 pending = get32(XPS_INTC + 4);
    if (pending == 1u << GPIO_LINE && get32(GPIO + DATA) == 1u << LINE)
        presses++;
    else
        strays++;
    put32(GPIO + ISR, 1);
    put32(XPS_INTC + 12, pending);
}

static void start(void)
{
    put32(GPIO + IER, 1);
    put32(GPIO + GIER, 0x80000000);
    put32(XPS_INTC + 8, 1u << GPIO_LINE);
    put32(XPS_INTC + 28, 3);
}
#endif

int main(void)
{
    start();
    put_text("press\n");
    while (!presses && !strays) {
        irq_off();
        if (!presses && !strays)
            sleep();
        irq_on();
    }
    put_text(strays ? "stray\n" : "bye\n");
    finish(strays);
}
