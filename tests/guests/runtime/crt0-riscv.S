# Start and trap entry of RV32 and RV64 in machine mode.
    .file   "crt0-riscv.S"
#if __riscv_xlen == 64
#define SR sd
#define LR ld
#define W 8
#else
#define SR sw
#define LR lw
#define W 4
#endif

    .section .text.start, "ax"
    .globl _start
_start:
    la      sp, _stack_top
    la      t0, trap_entry
    csrw    mtvec, t0
    la      t0, __bss_start
    la      t1, __bss_end
1:  bgeu    t0, t1, 2f
    SR      zero, 0(t0)
    addi    t0, t0, W
    j       1b
2:  call    main
    mv      a0, zero
    call    finish

    .text
    .balign 4
trap_entry:
    addi    sp, sp, -16*W
    SR      ra, 0*W(sp)
    SR      t0, 1*W(sp)
    SR      t1, 2*W(sp)
    SR      t2, 3*W(sp)
    SR      t3, 4*W(sp)
    SR      t4, 5*W(sp)
    SR      t5, 6*W(sp)
    SR      t6, 7*W(sp)
    SR      a0, 8*W(sp)
    SR      a1, 9*W(sp)
    SR      a2, 10*W(sp)
    SR      a3, 11*W(sp)
    SR      a4, 12*W(sp)
    SR      a5, 13*W(sp)
    SR      a6, 14*W(sp)
    SR      a7, 15*W(sp)
    csrr    a0, mcause
    csrr    a1, mepc
    csrr    a2, mtval
    call    trap
    LR      ra, 0*W(sp)
    LR      t0, 1*W(sp)
    LR      t1, 2*W(sp)
    LR      t2, 3*W(sp)
    LR      t3, 4*W(sp)
    LR      t4, 5*W(sp)
    LR      t5, 6*W(sp)
    LR      t6, 7*W(sp)
    LR      a0, 8*W(sp)
    LR      a1, 9*W(sp)
    LR      a2, 10*W(sp)
    LR      a3, 11*W(sp)
    LR      a4, 12*W(sp)
    LR      a5, 13*W(sp)
    LR      a6, 14*W(sp)
    LR      a7, 15*W(sp)
    addi    sp, sp, 16*W
    mret
