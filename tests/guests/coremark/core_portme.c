/* CoreMark on the guests' boards, and on the host (cc -DHOST) to compare with. Its console:

       in    SEED1 SEED2 SEED3 ITERATIONS ALGORITHMS      a line of numbers; 0 0 0 N 0 is the performance run
       out   @@START                                      the clock starts
             iterate ends                                 the clock stops
             …                                            CoreMark's own report
             @@DONE 0
*/
#include "coremark.h"
#include "guest.h"

#ifdef HOST
#include <stdio.h>
#include <time.h>

#define TICKS_PER_SECOND 1000000000u

void put_char(int c) { putchar(c); }
void put_text(const char *s) { fputs(s, stdout); fflush(stdout); }
int get_char(void) { return getchar(); }

static CORE_TICKS now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (CORE_TICKS)t.tv_sec * TICKS_PER_SECOND + (CORE_TICKS)t.tv_nsec;
}

static void start_clock(void) {}

#elif defined(__riscv)
#define TICKS_PER_SECOND TIMER_HZ

static CORE_TICKS now(void)
{
    uptr t;
    asm volatile("rdtime %0" : "=r"(t));
    return t;
}

static void start_clock(void) {}

#else
/* What the boards' timers count in a second, in QEMU too. */
#ifdef BOARD_s3adsp1800
#define TICKS_PER_SECOND 62000000u
#else
#define TICKS_PER_SECOND 100000000u
#endif

enum { LOAD_REGISTER = 4, COUNT_REGISTER = 8 };
enum { DOWN = 0x02, RELOAD = 0x10, LOAD = 0x20, ENABLE = 0x80, WRAPPED = 0x100 };

/* Counts down from 2^32 - 1; WRAPPED is the 33rd bit, good for 85 s at 100 MHz. */
static void start_clock(void)
{
    put32(XPS_TIMER + LOAD_REGISTER, 0xffffffff);
    put32(XPS_TIMER, LOAD | WRAPPED);
    put32(XPS_TIMER, ENABLE | RELOAD | DOWN);
}

static CORE_TICKS now(void)
{
    u32 count, wrapped;
    do {
        wrapped = get32(XPS_TIMER) & WRAPPED;
        count = get32(XPS_TIMER + COUNT_REGISTER);
    } while ((get32(XPS_TIMER) & WRAPPED) != wrapped);
    return ((CORE_TICKS)(wrapped != 0) << 32) + (0xffffffffu - count);
}
#endif

ee_u32 default_num_contexts = 1;

static ee_s32 given[5];
static CORE_TICKS began, ended;

ee_s32 portme_sys1(void) { return given[0]; }
ee_s32 portme_sys2(void) { return given[1]; }
ee_s32 portme_sys3(void) { return given[2]; }
ee_s32 portme_sys4(void) { return given[3]; }
ee_s32 portme_sys5(void) { return given[4]; }

void portable_init(core_portable *port, int *argc, char *argv[])
{
    (void)port;
    (void)argc;
    (void)argv;
    put_text("@@READY\n");
    for (u32 i = 0; i < 5;) {
        int c = get_char();
        if (c >= '0' && c <= '9')
            given[i] = given[i] * 10 + (c - '0');
        else if (c == ' ' || c == '\n')
            i++;
    }
}

void portable_fini(core_portable *port)
{
    (void)port;
    put_text("@@DONE 0\n");
#ifndef HOST
    finish(0);
#endif
}

void start_time(void)
{
    put_text("@@START\n");
    start_clock();
    began = now();
}

void stop_time(void)
{
    ended = now();
    put_text("iterate ends\n");
}

CORE_TICKS get_time(void)
{
    return ended - began;
}

secs_ret time_in_secs(CORE_TICKS ticks)
{
    return (secs_ret)(ticks / TICKS_PER_SECOND);
}

static void put_number(unsigned long value, u32 base, int width, char fill)
{
    char digits[24];
    int n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    for (; width > n; width--)
        put_char(fill);
    while (n)
        put_char(digits[--n]);
}

int ee_printf(const char *format, ...)
{
    __builtin_va_list more;
    __builtin_va_start(more, format);
    for (; *format; format++) {
        if (*format != '%') {
            put_char(*format);
            continue;
        }
        char fill = ' ';
        int width = 0, is_long = 0;
        if (*++format == '0')
            fill = '0';
        for (; *format >= '0' && *format <= '9'; format++)
            width = width * 10 + (*format - '0');
        for (; *format == 'l'; format++)
            is_long = 1;
        if (*format == 'c')
            put_char(__builtin_va_arg(more, int));
        else if (*format == 's')
            for (const char *s = __builtin_va_arg(more, const char *); *s; s++)
                put_char(*s);
        else if (*format == 'd') {
            long value = is_long ? __builtin_va_arg(more, long) : __builtin_va_arg(more, int);
            if (value < 0)
                put_char('-');
            put_number(value < 0 ? 0ul - (unsigned long)value : (unsigned long)value, 10, width, fill);
        } else
            put_number(is_long ? __builtin_va_arg(more, unsigned long) : __builtin_va_arg(more, unsigned),
                       *format == 'x' ? 16 : 10, width, fill);
    }
    __builtin_va_end(more);
    return 0;
}
