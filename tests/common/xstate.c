/*
 * Lets User-Mode Linux run on processors whose register state is larger than it knows.
 *
 * A guest kernel sets the floating point registers of its processes with PTRACE_SETREGSET and a
 * buffer of a fixed size. The host takes nothing but its own full size: on a machine with AMX
 * that is 11 KiB, and the guest dies at its first process. Preloaded into the guest kernel, this
 * completes such a call with zeroes, the initial state of registers the guest never touches.
 * It does nothing where the sizes agree.
 */
#include <elf.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif

/* Not on the stack: a kernel's is small. Its one processor makes one call at a time. */
static char state[1 << 16] __attribute__((aligned(64)));
static size_t state_size;

static long set_state(long pid, const struct iovec *part)
{
    if (state_size == 0) {
        struct iovec probe = { state, sizeof state };
        if (syscall(SYS_ptrace, PTRACE_GETREGSET, pid, NT_X86_XSTATE, &probe) < 0)
            return -1;
        state_size = probe.iov_len;
        memset(state, 0, sizeof state);
    }
    struct iovec whole = *part;
    if (part->iov_len < state_size) {
        memcpy(state, part->iov_base, part->iov_len);
        whole = (struct iovec) { state, state_size };
    }
    return syscall(SYS_ptrace, PTRACE_SETREGSET, pid, NT_X86_XSTATE, &whole);
}

long ptrace(enum __ptrace_request request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    long pid = va_arg(arguments, int);
    long address = va_arg(arguments, long);
    long data = va_arg(arguments, long);
    va_end(arguments);

    if (request == PTRACE_SETREGSET && address == NT_X86_XSTATE)
        return set_state(pid, (const struct iovec *)data);
    if (request != PTRACE_PEEKTEXT && request != PTRACE_PEEKDATA && request != PTRACE_PEEKUSER)
        return syscall(SYS_ptrace, request, pid, address, data);
    /* The system call stores what the library function returns. */
    long word = 0;
    if (syscall(SYS_ptrace, request, pid, address, &word) < 0)
        return -1;
    errno = 0;
    return word;
}
