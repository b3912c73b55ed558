/* The machines that the guests are built for: where RAM, console, timer and interrupt controller are. */
#ifndef BOARD_H
#define BOARD_H

#if defined(BOARD_rv64) || defined(BOARD_rv32)          /* the map of QEMU's "virt" */
#define UART_16550 0x10000000u
#define UART_SHIFT 0
#define FINISHER   0x00100000u
#define GPIO       0x00102000u
#define ECAM       0x30000000u
#define MMIO       0x40000000u
#define MTIMECMP   0x02004000u
#define MTIME      0x0200bff8u
#define TIMER_HZ   10000000u
#elif defined(BOARD_mb) || defined(BOARD_mbel)          /* our demo machine; RAM and vectors at 0 */
#define UART_16550 0x10000000u
#define UART_SHIFT 0
#define FINISHER   0x00100000u
#define XPS_INTC   0x41200000u
#define XPS_TIMER  0x41c00000u
#define TIMER_LINE 1
#define GPIO       0x40000000u
#define GPIO_LINE  2
#elif defined(BOARD_s3adsp1800)                         /* petalogix-s3adsp1800, big-endian */
#define UART_LITE  0x84000000u
#define XPS_INTC   0x81800000u
#define XPS_TIMER  0x83c00000u
#define TIMER_LINE 0
#elif defined(BOARD_ml605)                              /* petalogix-ml605, little-endian */
#define UART_16550 0x83e01000u
#define UART_SHIFT 2
#define XPS_INTC   0x81800000u
#define XPS_TIMER  0x83c00000u
#define TIMER_LINE 2
#elif !defined(HOST)
#error "no board"
#endif

#endif
