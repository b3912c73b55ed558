/* A MicroBlaze Linux program without a C library, as /init: do registers and memory survive interrupts, signals, page faults, forks?

       rdinit=/bin/registers COUNT

   25 registers hold a constant each while a loop compares them, and go on so through COUNT signals, with and without another process that
   wants the CPU; through page faults, as such, in a delay slot and behind an imm prefix; through forks and copies on write. A line a trial:
   "bad" says how often each register held something else, "frame" how often a signal's frame said so, "wrong" counts memory and children.
   (r1 is the stack, r2 the loops' own, r14, r16 and r17 are the traps'; the compiler is told to leave r4 alone, which signals lose.) */
typedef unsigned int u32;

enum { EXIT = 1, FORK = 2, WRITE = 4, EXECVE = 11, KILL = 37, MUNMAP = 91, SETITIMER = 104, WAIT4 = 114, NANOSLEEP = 162, SIGACTION = 174,
       MMAP2 = 192 };
enum { EINTR = 4, SIGKILL = 9, SIGALRM = 14, SIGCHLD = 17, SA_SIGINFO = 4, SA_RESTART = 0x10000000, TICK_US = 10000, GOOD = 42 };
#define PAGE 4096u
#define TURN (3 * PAGE) /* of touch: three pages */
#define FAR (6 * TURN)  /* what an imm prefix is needed for */

static long call(long n, long a, long b, long c, long d, long e, long f)
{
    register long r12 asm("r12") = n, r5 asm("r5") = a, r6 asm("r6") = b, r7 asm("r7") = c, r8 asm("r8") = d, r9 asm("r9") = e,
        r10 asm("r10") = f, r3 asm("r3");
    asm volatile("brki r14, 8" : "=r"(r3), "+r"(r12), "+r"(r5), "+r"(r6), "+r"(r7), "+r"(r8), "+r"(r9), "+r"(r10)
                 :: "r4", "r11", "r14", "memory");
    return r3;
}

static char line[400];
static u32 length;

static void text(const char *s)
{
    while (*s)
        line[length++] = *s++;
}

static void number(u32 v)
{
    char digits[10];
    int n = 0;
    do
        digits[n++] = (char)('0' + v % 10);
    while (v /= 10);
    while (n)
        line[length++] = digits[--n];
}

static void hex(u32 v)
{
    for (int i = 28; i >= 0; i -= 4)
        line[length++] = "0123456789abcdef"[v >> i & 15];
}

static void say(void)
{
    line[length++] = '\n';
    call(WRITE, 1, (long)line, length, 0, 0, 0);
    length = 0;
}

#define K(n) (0x5a000000u + (n) * 0x010203u)

u32 got[32];           /* what the registers held when one was wrong */
volatile u32 done;     /* ends hold() */
volatile u32 page;     /* where touch() is, and where it ends */
volatile u32 page_end;

/* hold() compares until `done`, touch() while it faults its way through the pages; both give the number of a register that was wrong. */
u32 hold(void), touch(void);
void trash(void);
extern char hold_first[], hold_last[], touch_first[], touch_last[];
asm(
"    .macro all what\n"
"    .irp n, 3,4,5,6,7,8,9,10,11,12,13,15,18,19,20,21,22,23,24,25,26,27,28,29,30\n    \\what \\n\n    .endr\n"
"    .endm\n"
"    .macro fill n\n    addik r\\n, r0, 0x5a000000 + \\n * 0x010203\n    .endm\n"
"    .macro same n\n    xori r2, r\\n, 0x5a000000 + \\n * 0x010203\n    bneid r2, failed\n    addik r2, r0, \\n\n    .endm\n"
"    .macro dump n\n    swi r\\n, r0, got + 4 * \\n\n    .endm\n"
"    .macro keep n\n    swi r\\n, r1, 4 * \\n\n    .endm\n"
"    .macro back n\n    lwi r\\n, r1, 4 * \\n\n    .endm\n"
"    .macro enter\n    addik r1, r1, -160\n    keep 2\n    keep 31\n    all keep\n    all fill\n    .endm\n"
"    .macro leave\n    back 2\n    back 31\n    rtsd r15, 8\n    addik r1, r1, 160\n    .endm\n"
"hold:\n    enter\n"
"hold_first:\n    all same\n    lwi r2, r0, done\n    beqi r2, hold_first\n"
"hold_last:\n    all back\n    addk r3, r0, r0\n    leave\n"
"failed:\n    all dump\n    all back\n    addk r3, r2, r0\n    leave\n"
"touch:\n    enter\n    lwi r31, r0, page\n"
"touch_first:\n    swi r3, r31, 0\n"
"    all same\n"
"    brid 1f\n    swi r4, r31, 4096\n    bri failed\n"
"1:  all same\n"
"    lwi r2, r31, 8192 + 73728\n    bneid r2, failed\n    addik r2, r0, 31\n"
"    swi r5, r31, 8192 + 73728\n"
"    all same\n"
"    addik r31, r31, 12288\n    swi r31, r0, page\n"
"    lwi r2, r0, page_end\n    cmpu r2, r31, r2\n    bgti r2, touch_first\n"
"touch_last:\n    all back\n    addk r3, r0, r0\n    leave\n"
"trash:\n    .irp n, 3,4,5,6,7,8,9,10,11,12,18\n    addik r\\n, r0, 0xdead0000 + \\n\n    .endr\n    rtsd r15, 8\n    nop\n"
"    .globl _start\n_start:\n    addk r5, r1, r0\n    addik r1, r1, -64\n    brlid r15, begin\n    nop\n");

static const char *trial;
static u32 bad[32], frame[32], wrong, wanted, shown;
static volatile u32 signals, inside;

static void on_signal(int signal, void *info, u32 *context)
{
    u32 *r = context + 5, pc = r[32]; /* struct ucontext: flags, link, stack (3 words), then struct pt_regs */
    (void)signal, (void)info;
    signals++;
    if ((pc >= (u32)hold_first && pc < (u32)hold_last) || (pc >= (u32)touch_first && pc < (u32)touch_last)) {
        inside++;
        for (u32 n = 3; n < 31; n++)
            if (n != 14 && n != 16 && n != 17 && r[n] != K(n))
                frame[n]++;
    }
    if (signals >= wanted)
        done = 1;
    trash();
}

static void handle(int signal)
{
    u32 action[5] = {(u32)on_signal, SA_SIGINFO | SA_RESTART, 0, 0, 0};
    call(SIGACTION, signal, (long)action, 0, 8, 0, 0);
}

static void every(u32 microseconds)
{
    u32 value[4] = {0, microseconds, 0, microseconds};
    call(SETITIMER, 0, (long)value, 0, 0, 0, 0);
}

static void begins(const char *name, u32 count)
{
    trial = name;
    for (int n = 0; n < 32; n++)
        bad[n] = frame[n] = 0;
    signals = inside = done = wrong = shown = 0;
    wanted = count;
}

static void note(u32 n)
{
    bad[n]++;
    if (shown++)
        return;
    text("registers: "), text(trial), text(": first r"), number(n), text(" was "), hex(got[n]), text(", not "), hex(K(n));
    say();
}

static void counts(const char *name, const u32 *table)
{
    text(name);
    for (u32 n = 0; n < 32; n++)
        if (table[n])
            text(" r"), number(n), text("="), number(table[n]);
}

static void ends(u32 events)
{
    every(0);
    text("registers: "), text(trial), text(": events "), number(events), text(" signals "), number(signals), text(" inside ");
    number(inside), counts("; bad", bad), counts("; frame", frame), text("; wrong "), number(wrong);
    say();
}

static void held(const char *name, u32 count)
{
    begins(name, count);
    every(TICK_US);
    while (!done) {
        u32 n = hold();
        if (n)
            note(n);
    }
    ends(count);
}

/* `turns` three times through fresh pages, whose contents are checked; `alone`: without signals */
static void faults(u32 turns, int alone)
{
    u32 size = turns * TURN + 2 * FAR, base = (u32)call(MMAP2, 0, size, 3 /* read, write */, 0x22 /* private, anonymous */, -1, 0), n;
    if (base > -PAGE) {
        wrong++;
        return;
    }
    page = base;
    page_end = base + turns * TURN;
    while (page < page_end && (n = touch())) {
        note(n);
        *(u32 *)page = K(3), *(u32 *)(page + PAGE) = K(4), *(u32 *)(page + 2 * PAGE + FAR) = K(5);
        page += TURN;
    }
    for (u32 turn = 0; turn < turns; turn++) {
        u32 *at = (u32 *)(base + turn * TURN);
        wrong += (at[0] != K(3)) + (alone && at[PAGE / 4] != K(4)) + (at[(2 * PAGE + FAR) / 4] != K(5));
    }
    call(MUNMAP, base, size, 0, 0, 0, 0);
}

static void faulting(const char *name, u32 count, int alone)
{
    u32 turns = 0;
    begins(name, count);
    if (!alone)
        every(TICK_US);
    while (alone ? turns < count * 200 : !done)
        faults(200, alone), turns += 200;
    ends(turns * 3);
}

static u32 data[16][PAGE / 4];

static void set(u32 seed)
{
    for (u32 i = 0; i < 16; i++)
        for (u32 k = 0; k < PAGE / 4; k += 16)
            data[i][k] = seed + i * PAGE + k;
}

static u32 lost(u32 seed)
{
    u32 n = 0;
    for (u32 i = 0; i < 16; i++)
        for (u32 k = 0; k < PAGE / 4; k += 16)
            n += data[i][k] != seed + i * PAGE + k;
    return n;
}

static void child(u32 seed, int fresh)
{
    if (fresh) {
        const char *arguments[3] = {"/bin/registers", "child", 0}, *environment[1] = {0};
        call(EXECVE, (long)arguments[0], (long)arguments, (long)environment, 0, 0, 0);
    }
    u32 status = lost(seed) ? 1 : GOOD;
    set(~seed);
    call(EXIT, fresh ? 2 : status, 0, 0, 0, 0, 0);
}

static void forks(const char *name, u32 count, int alone)
{
    begins(name, ~0u);
    if (!alone)
        handle(SIGCHLD), every(TICK_US);
    for (u32 turn = 0, seed = 1; turn < count; turn++, seed += 77) {
        set(seed);
        long pid = call(FORK, 0, 0, 0, 0, 0, 0), found;
        if (pid == 0)
            child(seed, turn & 1);
        for (u32 i = 0; i < 16; i++)
            data[i][1] = turn;
        faults(8, alone);
        int status = 0;
        while ((found = call(WAIT4, pid, (long)&status, 0, 0, 0, 0)) == -EINTR)
            ;
        wrong += (found != pid) + (status != GOOD << 8) + lost(seed);
    }
    ends(count);
}

static void beside(void)
{
    begins("beside", ~0u);
    for (;;)
        hold();
}

void begin(u32 *sp)
{
    char **arguments = (char **)(sp + 1);
    u32 count = 0;
    if (sp[0] > 1 && arguments[1][0] == 'c') {
        faults(4, 1);
        for (u32 n = 0; n < 32; n++)
            wrong += bad[n];
        call(EXIT, wrong ? 3 : GOOD, 0, 0, 0, 0, 0);
    }
    for (const char *s = sp[0] > 1 ? arguments[1] : "100"; *s; s++)
        count = count * 10 + (u32)(*s - '0');
    handle(SIGALRM);
    held("signals", count);
    long other = call(FORK, 0, 0, 0, 0, 0, 0);
    if (other == 0)
        beside();
    held("signals beside", count);
    faulting("faults signals beside", count, 0);
    call(KILL, other, SIGKILL, 0, 0, 0, 0);
    call(WAIT4, other, 0, 0, 0, 0, 0);
    faulting("faults", count, 1);
    faulting("faults signals", count, 0);
    forks("forks", count, 1);
    forks("forks signals", count, 0);
    text("registers: all done");
    say();
    for (;;) {
        long time[2] = {1000, 0};
        call(NANOSLEEP, (long)time, 0, 0, 0, 0, 0);
    }
}
