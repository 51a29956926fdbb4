/* A QEMU plugin that counts guest instructions into a file that the guest can map too.
 *
 * The counter is eight bytes in a file, mapped shared by this plugin and, if it likes, by the guest program: reading the
 * count is then one load, without a system call. After the run the file holds the total.
 *
 * The few prototypes we use are declared here because Debian's qemu-user carries no qemu-plugin.h; names and
 * types are those of QEMU's documented plugin interface, versions 1 and 2. Counting is added to each translated block
 * inline where QEMU offers that function (before 9.0), else by a callback for each block.
 *
 * Threads add without atomics when inline: count single-threaded programs.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef PLUGIN_VERSION
#define PLUGIN_VERSION 1
#endif

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_info;
enum { NO_REGISTERS = 0 };
enum { INLINE_ADD_U64 = 0 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(
    qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern void qemu_plugin_register_vcpu_tb_exec_cb(
    struct qemu_plugin_tb *block, void (*callback)(unsigned int, void *), int flags, void *data);
extern void qemu_plugin_register_vcpu_tb_exec_inline(
    struct qemu_plugin_tb *block, int op, void *address, uint64_t value) __attribute__((weak));

__attribute__((visibility("default"))) int qemu_plugin_version = PLUGIN_VERSION;

static volatile uint64_t *counter;

static void executed(unsigned int cpu, void *instructions) {
    (void)cpu;
    *counter += (uint64_t)(uintptr_t)instructions;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    uint64_t instructions = qemu_plugin_tb_n_insns(block);
    if (qemu_plugin_register_vcpu_tb_exec_inline) {
        qemu_plugin_register_vcpu_tb_exec_inline(block, INLINE_ADD_U64, (void *)counter, instructions);
    } else {
        qemu_plugin_register_vcpu_tb_exec_cb(block, executed, NO_REGISTERS, (void *)(uintptr_t)instructions);
    }
}

__attribute__((visibility("default"))) int qemu_plugin_install(
    qemu_plugin_id_t id, const struct qemu_info *info, int count, char **arguments) {
    (void)info;
    if (count != 1 || strncmp(arguments[0], "counter=", 8) != 0) {
        fprintf(stderr, "count plugin: wants counter=PATH\n");
        return -1;
    }
    int file = open(arguments[0] + 8, O_RDWR);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0 || status.st_size < 8) {
        fprintf(stderr, "count plugin: %s: not a file of eight bytes\n", arguments[0] + 8);
        return -1;
    }
    counter = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (counter == MAP_FAILED) {
        fprintf(stderr, "count plugin: %s: can't be mapped\n", arguments[0] + 8);
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
