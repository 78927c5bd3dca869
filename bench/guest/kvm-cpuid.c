/* What one exit and re-entry costs: a 16-bit guest on /dev/kvm executes CPUID again and again, KVM answers each in its kernel.
 * kvm-cpuid COUNT. Prints marks around the loop, and the processor's time stamps that one round took. */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <x86intrin.h>

enum { GUEST_AT = 0x1000, MEMORY_SIZE = 0x4000 };

/* mov eax,0x80000000; cpuid; dec esi; jnz to the mov; hlt */
static const uint8_t code[] = {0x66, 0xb8, 0, 0, 0, 0x80, 0x0f, 0xa2, 0x66, 0x4e, 0x75, 0xf4, 0xf4};

static void must(int result, const char* what) {
    if (result >= 0) return;
    perror(what);
    exit(1);
}

int main(int argc, char** argv) {
    const uint32_t count = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 100000;
    const int kvm = open("/dev/kvm", O_RDWR);
    must(kvm, "/dev/kvm");
    const int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    must(vm, "KVM_CREATE_VM");
    uint8_t* memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memcpy(memory, code, sizeof code);
    const struct kvm_userspace_memory_region region = {
        .slot = 0, .guest_phys_addr = GUEST_AT, .memory_size = MEMORY_SIZE, .userspace_addr = (uintptr_t)memory};
    must(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
    const int cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    must(cpu, "KVM_CREATE_VCPU");
    struct kvm_run* run = mmap(NULL, (size_t)ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
    struct kvm_sregs sregs;
    must(ioctl(cpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    sregs.cs.base = sregs.cs.selector = 0;
    must(ioctl(cpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
    for (int pass = 0; pass < 2; ++pass) { /* the first one warms up */
        const struct kvm_regs regs = {.rip = GUEST_AT, .rsi = pass == 0 ? 1000 : count, .rflags = 2};
        must(ioctl(cpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
        if (pass == 1) printf("mark begin cpuid\n"), fflush(stdout);
        const uint64_t begin = __rdtsc();
        must(ioctl(cpu, KVM_RUN, 0), "KVM_RUN");
        const uint64_t end = __rdtsc();
        if (pass == 1) printf("mark end cpuid\n");
        if (run->exit_reason != KVM_EXIT_HLT) return 1;
        if (pass == 1) printf("cpuid: %u rounds of %.1f\n", count, (double)(end - begin) / count);
    }
    return 0;
}
