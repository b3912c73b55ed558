# Start, interrupt and exception entry of a MicroBlaze whose vectors are at 0. The start writes them: "imm hi; brai lo".
    .file   "crt0-microblaze.S"
    .section .text.start, "ax"
    .globl _start
_start:
    la      r1, r0, _stack_top
    la      r3, r0, __bss_start
    la      r4, r0, __bss_end
1:  cmpu    r5, r4, r3
    bgei    r5, 2f
    swi     r0, r3, 0
    addik   r3, r3, 4
    bri     1b
2:  la      r3, r0, interrupt_entry
    addik   r4, r0, 0x10
    brlid   r15, set_vector
    nop
    la      r3, r0, exception_entry
    addik   r4, r0, 0x20
    brlid   r15, set_vector
    nop
    brlid   r15, main
    nop
    addik   r5, r0, 0
    brlid   r15, finish
    nop

# r3: address of the handler, r4: the vector
set_vector:
    srl     r5, r3
    addik   r6, r0, 15
3:  srl     r5, r5
    addik   r6, r6, -1
    bnei    r6, 3b
    la      r7, r0, 0xb0000000
    or      r5, r5, r7
    swi     r5, r4, 0
    andi    r5, r3, 0xffff
    la      r7, r0, 0xb8080000
    or      r5, r5, r7
    swi     r5, r4, 4
    rtsd    r15, 8
    nop

    .text
interrupt_entry:
    addik   r1, r1, -80
    swi     r15, r1, 0
    swi     r3, r1, 28
    swi     r4, r1, 32
    swi     r5, r1, 36
    swi     r6, r1, 40
    swi     r7, r1, 44
    swi     r8, r1, 48
    swi     r9, r1, 52
    swi     r10, r1, 56
    swi     r11, r1, 60
    swi     r12, r1, 64
    swi     r17, r1, 68
    swi     r18, r1, 72
    mfs     r11, rmsr
    swi     r11, r1, 76
    brlid   r15, interrupt
    nop
    lwi     r11, r1, 76
    mts     rmsr, r11
    lwi     r15, r1, 0
    lwi     r3, r1, 28
    lwi     r4, r1, 32
    lwi     r5, r1, 36
    lwi     r6, r1, 40
    lwi     r7, r1, 44
    lwi     r8, r1, 48
    lwi     r9, r1, 52
    lwi     r10, r1, 56
    lwi     r11, r1, 60
    lwi     r12, r1, 64
    lwi     r17, r1, 68
    lwi     r18, r1, 72
    rtid    r14, 0
    addik   r1, r1, 80

exception_entry:
    mfs     r5, resr
    mfs     r6, rear
    addk    r7, r17, r0
    brlid   r15, exception
    nop
