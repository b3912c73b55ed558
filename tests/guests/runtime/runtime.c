/* The console and the end, by polling; and the three functions that the compiler calls by itself. */
#include "guest.h"

void *memcpy(void *to, const void *from, usize n);
void *memset(void *to, int c, usize n);

void *memcpy(void *to, const void *from, usize n)
{
    u8 *d = to;
    const u8 *s = from;
    while (n--)
        *d++ = *s++;
    return to;
}

void *memset(void *to, int c, usize n)
{
    u8 *d = to;
    while (n--)
        *d++ = (u8)c;
    return to;
}

void put_char(int c)
{
#if defined(UART_16550)
    while (!(get8(UART_16550 + (5 << UART_SHIFT)) & 0x20))
        ;
    put8(UART_16550, (u8)c);
#else
    while (get32(UART_LITE + 8) & 8)
        ;
    put32(UART_LITE + 4, (u8)c);
#endif
}

int get_char(void)
{
#if defined(UART_16550)
    if (!(get8(UART_16550 + (5 << UART_SHIFT)) & 1))
        return -1;
    return get8(UART_16550);
#else
    if (!(get32(UART_LITE + 8) & 1))
        return -1;
    return (int)(get32(UART_LITE) & 0xff);
#endif
}

void put_text(const char *s)
{
    while (*s)
        put_char(*s++);
}

void put_hex32(u32 v)
{
    for (int i = 28; i >= 0; i -= 4)
        put_char("0123456789abcdef"[(v >> i) & 15]);
}

void put_hex64(u64 v)
{
    put_hex32((u32)(v >> 32));
    put_hex32((u32)v);
}

void put_dec(u32 v)
{
    char digits[10];
    int n = 0;
    do {
        digits[n++] = (char)('0' + v % 10);
        v /= 10;
    } while (v);
    while (n)
        put_char(digits[--n]);
}

void finish(u32 status)
{
#ifdef FINISHER
    u32 word = status ? (status << 16 | 0x3333) : 0x5555;
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__      /* the finisher is a little-endian device */
    word = word << 24 | (word & 0xff00) << 8 | (word >> 8 & 0xff00) | word >> 24;
#endif
    put32(FINISHER, word);
#else
    (void)status;
#endif
    irq_off();
    for (;;)
        sleep();
}

#ifdef __riscv
__attribute__((weak)) void trap(uptr cause, uptr pc, uptr value)
{
    put_text("@@TRAP ");
    put_hex64(cause);
    put_text(" at ");
    put_hex64(pc);
    put_text(" value ");
    put_hex64(value);
    put_text("\n");
    finish(1);
}
#else
__attribute__((weak)) void interrupt(void)
{
    put_text("@@INTERRUPT\n");
    finish(1);
}

void exception(u32 esr, u32 ear, u32 pc);
void exception(u32 esr, u32 ear, u32 pc)
{
    put_text("@@EXCEPTION esr ");
    put_hex32(esr);
    put_text(" ear ");
    put_hex32(ear);
    put_text(" r17 ");
    put_hex32(pc);
    put_text("\n");
    finish(1);
}
#endif
