/* The smallest monitor on /dev/kvm: a 16-bit guest adds two numbers, tells the sum through a port and halts; a second one
 * counts to a million. Prints what came out; exit code 0 if all of it is right. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { GUEST_AT = 0x1000, MEMORY_SIZE = 0x4000 };

static int fail(const char* what) {
    perror(what);
    return 1;
}

/* mov dx,0x3f8; add al,bl; add al,'0'; out dx,al; mov al,10; out dx,al; hlt */
static const uint8_t adds[] = {0xba, 0xf8, 0x03, 0x00, 0xd8, 0x04, '0', 0xee, 0xb0, '\n', 0xee, 0xf4};
/* mov ecx,1000000; dec ecx; jnz -4; mov al,'!'; mov dx,0x3f8; out dx,al; hlt */
static const uint8_t counts[] = {0x66, 0xb9, 0x40, 0x42, 0x0f, 0x00, 0x66, 0x49, 0x75, 0xfc, 0xb0, '!', 0xba, 0xf8, 0x03, 0xee, 0xf4};

/* Runs a guest until it halts; what it told goes to `out`. Returns the number of exits, or -1. */
static int run_guest(int kvm, const uint8_t* code, size_t size, char* out, size_t room) {
    const int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0) return -fail("KVM_CREATE_VM");
    uint8_t* memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memcpy(memory, code, size);
    const struct kvm_userspace_memory_region region = {
        .slot = 0, .guest_phys_addr = GUEST_AT, .memory_size = MEMORY_SIZE, .userspace_addr = (uintptr_t)memory};
    if (ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0) return -fail("KVM_SET_USER_MEMORY_REGION");
    const int cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    if (cpu < 0) return -fail("KVM_CREATE_VCPU");
    struct kvm_run* run = mmap(NULL, (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
    struct kvm_sregs sregs;
    ioctl(cpu, KVM_GET_SREGS, &sregs);
    sregs.cs.base = sregs.cs.selector = 0;
    ioctl(cpu, KVM_SET_SREGS, &sregs);
    const struct kvm_regs regs = {.rip = GUEST_AT, .rax = 2, .rbx = 5, .rflags = 2};
    ioctl(cpu, KVM_SET_REGS, &regs);
    for (int exits = 1; exits < 100; ++exits) {
        if (ioctl(cpu, KVM_RUN, 0) < 0) return -fail("KVM_RUN");
        if (run->exit_reason == KVM_EXIT_HLT) return exits;
        if (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT && room > 1) {
            *out++ = ((char*)run)[run->io.data_offset];
            *out = 0;
            --room;
            continue;
        }
        printf("monitor: exit reason %u, hardware reason 0x%llx\n", run->exit_reason,
               (unsigned long long)(run->exit_reason == KVM_EXIT_FAIL_ENTRY ? run->fail_entry.hardware_entry_failure_reason
                                                                            : run->internal.suberror));
        return -1;
    }
    return -1;
}

int main(void) {
    char sum[16] = "", count[16] = "";
    const int kvm = open("/dev/kvm", O_RDWR);
    if (kvm < 0) return fail("/dev/kvm");
    printf("monitor: KVM API version %d\n", ioctl(kvm, KVM_GET_API_VERSION, 0));
    const int first = run_guest(kvm, adds, sizeof adds, sum, sizeof sum);
    const int second = run_guest(kvm, counts, sizeof counts, count, sizeof count);
    printf("monitor: sum %.1s after %d exits, count %s after %d\n", sum, first, count, second);
    return strcmp(sum, "7\n") != 0 || first != 3 || strcmp(count, "!") != 0 || second != 2;
}
