/* What every guest has: fixed-width types, the console, the end of the run, interrupts. */
#ifndef GUEST_H
#define GUEST_H

#include "board.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef int i32;
typedef unsigned long long u64;
typedef __SIZE_TYPE__ usize;
typedef __UINTPTR_TYPE__ uptr;

#define NOINLINE __attribute__((noinline))

static inline u32 get32(uptr a) { return *(volatile u32 *)a; }
static inline void put32(uptr a, u32 v) { *(volatile u32 *)a = v; }
static inline u8 get8(uptr a) { return *(volatile u8 *)a; }
static inline void put8(uptr a, u8 v) { *(volatile u8 *)a = v; }

void put_char(int c);
void put_text(const char *s);
void put_hex32(u32 v);
void put_hex64(u64 v);
void put_dec(u32 v);
int  get_char(void);            /* -1 when nothing came */

/* End the machine where there is a finisher (status 0: pass), else sleep for good. */
void finish(u32 status) __attribute__((noreturn));

#ifdef __riscv
static inline void irq_on(void)  { asm volatile("csrsi mstatus, 8" ::: "memory"); }
static inline void irq_off(void) { asm volatile("csrci mstatus, 8" ::: "memory"); }
/* Sleep until a line is pending, also one that irq_off() holds back. */
static inline void sleep(void)   { asm volatile("wfi" ::: "memory"); }
static inline void barrier(void) { asm volatile("fence" ::: "memory"); }
/* Called by the trap entry; a guest that takes traps has its own. */
void trap(uptr cause, uptr pc, uptr value);
#elif defined(__MICROBLAZE__)
static inline void irq_on(void)  { u32 t; asm volatile("mfs %0, rmsr\n\tori %0, %0, 2\n\tmts rmsr, %0" : "=&r"(t) :: "memory"); }
static inline void irq_off(void) { u32 t; asm volatile("mfs %0, rmsr\n\tandi %0, %0, ~2\n\tmts rmsr, %0" : "=&r"(t) :: "memory"); }
static inline void sleep(void)   { asm volatile("mbar 16" ::: "memory"); }
static inline void barrier(void) { asm volatile("mbar 1" ::: "memory"); }
/* Called by the interrupt entry. */
void interrupt(void);
#endif

#endif
