/* A firmware in C that answers one text and ends: runs on an emulated MPS2 board with a Cortex-M4. The plan lies in flash.
 *
 * What a real firmware has instead: its own start-up code and linker script, a serial port in place of the debugger, and a main loop
 * that calls furlong_step and feeds its watchdog.
 */
#include "furlong.h"

extern const uint8_t plan[];
extern const uint8_t plan_end[];

static FurlongSession session;
static uint8_t arena[128 * 1024];
static const char text[] = PROMPT;

/* Arm semihosting: what the debugger, here the emulator, does for us. */
static int ask_debugger(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void print(const char *words) { ask_debugger(0x04, words); }

static void print_bytes(const uint8_t *bytes, size_t count) {
    while (count-- > 0) {
        char one[2] = {(char)*bytes++, 0};
        print(one);
    }
}

static void end(int failed) {
    const uint32_t reason[2] = {0x20026, (uint32_t)failed};
    ask_debugger(0x20, reason);
    for (;;) {
    }
}

static int answer(void) {
    FurlongStatus status = furlong_open(&session, plan, (size_t)(plan_end - plan), arena, sizeof arena);
    if (status == FURLONG_STATUS_OK) {
        status = furlong_ask(&session, text, sizeof text - 1, 48);
    }
    while (status >= FURLONG_STATUS_OK && status < FURLONG_STATUS_FINISHED) {
        uint32_t token = 0;
        status = furlong_step(&session, &token);
        if (status == FURLONG_STATUS_TOKEN) {
            size_t count = 0;
            const uint8_t *piece = furlong_piece(&session, token, &count);
            print_bytes(piece, count);
        }
        /* Here a watchdog would be fed. */
    }
    print("\n");
    if (status < 0) {
        print(furlong_explain(status));
        print("\n");
    }
    return status < 0;
}

/* Start-up: the FPU must be switched on before the first float; the linker script puts all variables that are not zero into flash's image. */
extern uint32_t stack_end[], data_start[], data_end[], bss_start[], bss_end[];
extern const uint32_t data_in_flash[];

void reset(void) {
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20;
    __asm__ volatile("dsb\n isb");
    for (volatile uint32_t *to = data_start, *from = (uint32_t *)data_in_flash; to < data_end;) {
        *to++ = *from++;
    }
    for (volatile uint32_t *to = bss_start; to < bss_end;) {
        *to++ = 0;
    }
    end(answer());
}

static void fault(void) {
    print("fault\n");
    end(1);
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    stack_end, reset, fault, fault, fault, fault, fault,
};

__asm__(".section .plan, \"a\"\n"
        ".balign 64\n"
        ".global plan, plan_end\n"
        "plan: .incbin \"" PLAN "\"\n"
        "plan_end:\n"
        ".text\n");
