/* What CoreMark (EEMBC; not in this repository) asks of a port: its types, and how it gets seeds, memory and time here. */
#ifndef CORE_PORTME_H
#define CORE_PORTME_H

#define HAS_FLOAT 0             /* the MicroBlaze guests have no FPU: whole seconds and scores */
#define HAS_TIME_H 0
#define USE_CLOCK 0
#define HAS_STDIO 0
#define HAS_PRINTF 0            /* ee_printf below */

#define MAIN_HAS_NOARGC 1
#define MAIN_HAS_NORETURN 0
#define MULTITHREAD 1
#define SEED_METHOD SEED_FUNC   /* the console says seeds and iterations: no compiler knows them */
#define MEM_METHOD MEM_STATIC

#define COMPILER_VERSION "GCC " __VERSION__
#ifndef COMPILER_FLAGS
#error "COMPILER_FLAGS: what the build was told"
#endif
#define MEM_LOCATION "STATIC"

typedef unsigned char ee_u8;
typedef signed short ee_s16;
typedef unsigned short ee_u16;
typedef signed int ee_s32;
typedef unsigned int ee_u32;
typedef float ee_f32;
typedef __UINTPTR_TYPE__ ee_ptr_int;
typedef __SIZE_TYPE__ ee_size_t;
typedef unsigned long long CORE_TICKS;

#undef NULL
#define NULL ((void *)0)

/* The next address that is a multiple of 4. */
#define align_mem(at) ((void *)(((ee_ptr_int)(at) + 3) & ~(ee_ptr_int)3))

typedef struct {
    ee_u8 unused;
} core_portable;

extern ee_u32 default_num_contexts;

void portable_init(core_portable *port, int *argc, char *argv[]);
void portable_fini(core_portable *port);

/* Number 1 to 5 of the console's line: three seeds, iterations, algorithms (0: all). */
ee_s32 portme_sys1(void);
ee_s32 portme_sys2(void);
ee_s32 portme_sys3(void);
ee_s32 portme_sys4(void);
ee_s32 portme_sys5(void);

/* %c %s %d %u %x, with l, zeros and a width. */
int ee_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
