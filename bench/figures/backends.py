"""What runs the workloads: each back-end makes a command line."""
import os
import shutil

# Bound mounts instead of fresh ones: they are allowed in a user namespace, too.
NATIVE = ('set -e; root=$1; mount -t tmpfs -o size=2g tmpfs "$root"; cp -a "$2"/. "$root"/; mount --rbind /proc "$root/proc"; '
          'mount --rbind /dev "$root/dev"; mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"; '
          'exec chroot "$root" /bench/benchinit native "$3" 1')


class Native:
    """The host itself, on one processor, in the tree that the guest image is made of."""
    name = "native"
    boots = False

    def __init__(self, work):
        self.work = work

    def missing(self):
        return []

    def argv(self, job):
        mount = os.path.join(self.work, "mnt")
        os.makedirs(mount, exist_ok=True)
        namespaces = ["unshare", "--mount", "--propagation", "private"]
        if os.geteuid() != 0:
            namespaces[1:1] = ["--user", "--map-root-user"]
        return ["taskset", "-c", "0", *namespaces, "sh", "-c", NATIVE, "sh", mount, os.path.join(self.work, "native"),
                job["selection"]]


class Qemu:
    """QEMU's translator with one thread, which is its fastest mode for one processor. BENCH_QEMU: another binary."""
    name = "qemu"
    boots = True

    def __init__(self, work):
        self.binary = os.environ.get("BENCH_QEMU", "qemu-system-x86_64")

    def missing(self):
        return [] if shutil.which(self.binary) else ["qemu-system-x86"]

    def argv(self, job):
        return [self.binary, "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "1", "-m", str(job["memory_mib"]),
                "-kernel", job["kernel"], "-initrd", job["initrd"], "-append", job["cmdline"], "-display", "none",
                "-serial", "stdio", "-monitor", "none", "-no-reboot"]


class Verdigris:
    """A build of ours; several can be compared."""
    boots = True

    def __init__(self, name, binary, machine, settings):
        self.name, self.binary, self.machine, self.settings = name, binary, machine, settings

    def missing(self):
        return []

    def argv(self, job):
        settings = [word for setting in self.settings for word in ("-s", setting)]
        return [self.binary, "run", self.machine, "--kernel", job["kernel"], "--initrd", job["initrd"], "--cmdline", job["cmdline"],
                "-s", f"child.0.memory={job['memory_mib']} MiB", *settings, "--quiet"]
