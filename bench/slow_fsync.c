/* Loaded before a server (LD_PRELOAD), makes each fdatasync take at least 4 ms, as on the disks
 * that group commit is for. The write benchmark uses it to compare one writer with many on a
 * machine whose disk answers faster. */
#include <dlfcn.h>
#include <time.h>
#include <unistd.h>

enum { FDATASYNC_NS_MIN = 4000000 };

static long elapsed_ns(const struct timespec *since)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - since->tv_sec) * 1000000000L + (now.tv_nsec - since->tv_nsec);
}

int fdatasync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    struct timespec began;
    clock_gettime(CLOCK_MONOTONIC, &began);
    int result = real(fd);
    long left = FDATASYNC_NS_MIN - elapsed_ns(&began);
    if (left > 0)
        nanosleep(&(struct timespec){.tv_nsec = left}, NULL);
    return result;
}
