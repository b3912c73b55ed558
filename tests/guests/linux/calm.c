/* A MicroBlaze Linux program without a C library: goes on as /init, with SIGCHLD blocked, which programs inherit (rdinit=/bin/calm).

   The kernel of the guests loses r4 whenever a signal handler returns (docs/boot.md; registers.c shows it), and a shell, whose children's
   ends are signals, dies of it sooner or later. It waits for them all the same. */
enum { EXIT = 1, EXECVE = 11, SIGPROCMASK = 175, SIG_BLOCK = 0, SIGCHLD = 17 };

static long call(long n, long a, long b, long c, long d)
{
    register long r12 asm("r12") = n, r5 asm("r5") = a, r6 asm("r6") = b, r7 asm("r7") = c, r8 asm("r8") = d, r3 asm("r3");
    asm volatile("brki r14, 8" : "=r"(r3), "+r"(r12), "+r"(r5), "+r"(r6), "+r"(r7), "+r"(r8) :: "r4", "r11", "r14", "memory");
    return r3;
}

asm(".globl _start\n_start:\n\taddk r5, r1, r0\n\taddik r1, r1, -64\n\tbrlid r15, begin\n\tnop\n");

void begin(long *sp)
{
    long *arguments = sp + 1, *environment = arguments + sp[0] + 1;
    unsigned long signals[2] = {1ul << (SIGCHLD - 1), 0};
    call(SIGPROCMASK, SIG_BLOCK, (long)signals, 0, sizeof signals);
    arguments[0] = (long)"/init";
    call(EXECVE, (long)"/init", (long)arguments, (long)environment, 0);
    call(EXIT, 127, 0, 0, 0);
}
