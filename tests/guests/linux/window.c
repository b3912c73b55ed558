/* A Linux program without a C library: passes a file to another machine's Linux through shared memory and a mailbox.

       window put ADDRESS MAILBOX < file       window get ADDRESS MAILBOX > file

   ADDRESS: physical address (hex) of the window, MAILBOX: of this side's registers of an AXI mailbox (PG114: WRDATA 0, RDDATA 8,
   STATUS 16: bit 0 empty, bit 1 full). In the window: length and checksum, 4 bytes each in network order, then the bytes. Through the
   mailbox go the length, and back the checksum that the reader found; put says "passed" if it is the one it wrote. */
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long uptr;

#define PAGE 4096u
#define WINDOW (1u << 20)
#define HEAD 8u

#if defined(__riscv)
enum { OPENAT = 56, READ = 63, WRITE = 64, EXIT = 93, NANOSLEEP = 101, MMAP = 222 };

static long call(long n, long a, long b, long c, long d, long e, long f)
{
    register long a0 asm("a0") = a, a1 asm("a1") = b, a2 asm("a2") = c, a3 asm("a3") = d, a4 asm("a4") = e, a5 asm("a5") = f,
        a7 asm("a7") = n;
    asm volatile("ecall" : "+r"(a0) : "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5), "r"(a7) : "memory");
    return a0;
}

static inline void barrier(void) { asm volatile("fence" ::: "memory"); }
asm(".globl _start\n_start:\n\tmv a0, sp\n\tcall begin\n");
#define MAP_OFFSET(address) ((long)(address))
#define OPENED(path, flags) call(OPENAT, -100 /* the working directory */, (long)(path), flags, 0, 0, 0)
#elif defined(__MICROBLAZE__)
enum { EXIT = 1, READ = 3, WRITE = 4, OPEN = 5, NANOSLEEP = 162, MMAP = 192 };

static long call(long n, long a, long b, long c, long d, long e, long f)
{
    register long r12 asm("r12") = n, r5 asm("r5") = a, r6 asm("r6") = b, r7 asm("r7") = c, r8 asm("r8") = d, r9 asm("r9") = e,
        r10 asm("r10") = f, r3 asm("r3");
    asm volatile("brki r14, 8" : "=r"(r3), "+r"(r12), "+r"(r5), "+r"(r6), "+r"(r7), "+r"(r8), "+r"(r9), "+r"(r10)
                 :: "r4", "r11", "r14", "memory");
    return r3;
}

static inline void barrier(void) { asm volatile("mbar 1" ::: "memory"); }
asm(".globl _start\n_start:\n\taddk r5, r1, r0\n\taddik r1, r1, -64\n\tbrlid r15, begin\n\tnop\n");
#define MAP_OFFSET(address) ((long)((address) / PAGE))        /* mmap2 counts pages */
#define OPENED(path, flags) call(OPEN, (long)(path), flags, 0, 0, 0, 0)
#endif

static u32 length_of(const char *s)
{
    u32 n = 0;
    while (s[n])
        n++;
    return n;
}

static void say(const char *s) { call(WRITE, 2, (long)s, length_of(s), 0, 0, 0); }

static void end(int status, const char *why)
{
    say(why);
    say("\n");
    call(EXIT, status, 0, 0, 0, 0, 0);
    for (;;)
        ;
}

static uptr hex(const char *s)
{
    uptr v = 0;
    if (s[0] == '0' && s[1] == 'x')
        s += 2;
    for (; *s; s++)
        v = v * 16 + (uptr)(*s <= '9' ? *s - '0' : (*s | 32) - 'a' + 10);
    return v;
}

static volatile u8 *map(int fd, uptr address, u32 size)
{
    long at = call(MMAP, 0, size + (u32)(address % PAGE), 3 /* read, write */, 1 /* shared */, fd,
                   MAP_OFFSET(address / PAGE * PAGE));
    if (at < 0 && at > -4096)
        end(1, "window: /dev/mem can't be mapped there");
    return (volatile u8 *)at + address % PAGE;
}

static void put32(volatile u8 *p, u32 v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (u8)(v >> (24 - 8 * i));
}

static u32 get32(volatile const u8 *p) { return (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3]; }

static u32 checksum(volatile const u8 *p, u32 n)
{
    u32 a = 1, b = 0;                                           /* Adler-32 (RFC 1950) */
    for (u32 i = 0; i < n; i++) {
        a = (a + p[i]) % 65521;
        b = (b + a) % 65521;
    }
    return b << 16 | a;
}

static void nap(void)
{
    long time[2] = {0, 5000000};
    call(NANOSLEEP, (long)time, 0, 0, 0, 0, 0);
}

static void send(volatile u32 *mailbox, u32 v)
{
    while (mailbox[4] & 2)
        nap();
    mailbox[0] = v;
}

static u32 receive(volatile u32 *mailbox)
{
    while (mailbox[4] & 1)
        nap();
    return mailbox[2];
}

static u8 buffer[PAGE];

static int put(volatile u8 *window, volatile u32 *mailbox)
{
    u32 n = 0;
    long got;
    while ((got = call(READ, 0, (long)buffer, sizeof buffer, 0, 0, 0)) > 0) {
        if (n + (u32)got > WINDOW - HEAD)
            end(1, "window: the file is too large");
        for (long i = 0; i < got; i++)
            window[HEAD + n++] = buffer[i];
    }
    u32 sum = checksum(window + HEAD, n);
    put32(window, n);
    put32(window + 4, sum);
    barrier();
    send(mailbox, n);
    if (receive(mailbox) != sum)
        end(1, "window: the other side read something else");
    say("passed\n");
    return 0;
}

static int get(volatile const u8 *window, volatile u32 *mailbox)
{
    u32 n = receive(mailbox);
    barrier();
    if (n != get32(window) || n > WINDOW - HEAD)
        end(1, "window: the mailbox and the window don't agree");
    u32 sum = checksum(window + HEAD, n);
    for (u32 done = 0; done < n;) {
        u32 part = n - done < sizeof buffer ? n - done : sizeof buffer;
        for (u32 i = 0; i < part; i++)
            buffer[i] = window[HEAD + done + i];
        if (call(WRITE, 1, (long)buffer, part, 0, 0, 0) != (long)part)
            end(1, "window: the file can't be written");
        done += part;
    }
    send(mailbox, sum);
    return sum == get32(window + 4) ? 0 : 1;
}

__attribute__((used)) void begin(long *stack)
{
    char **argv = (char **)(stack + 1);
    if (stack[0] != 4 || (argv[1][0] != 'p' && argv[1][0] != 'g'))
        end(2, "usage: window put|get ADDRESS MAILBOX");
    long fd = OPENED("/dev/mem", 0x101002 /* read, write, synchronous */);
    if (fd < 0)
        end(1, "window: /dev/mem can't be opened");
    volatile u8 *window = map((int)fd, hex(argv[2]), WINDOW);
    volatile u32 *mailbox = (volatile u32 *)map((int)fd, hex(argv[3]), 64);
    end(argv[1][0] == 'p' ? put(window, mailbox) : get(window, mailbox), "");
}
