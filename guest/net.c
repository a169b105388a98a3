/* Configures the network by ioctls: many images have no ip(8), and starting it would take longer. */
#include "agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int interface_up(int fd, struct ifreq *request)
{
    if (ioctl(fd, SIOCGIFFLAGS, request))
        return -1;
    request->ifr_flags |= IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, request);
}

int loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int done = interface_up(fd, &request);
    close(fd);
    return done;
}

static struct ipv4 configured; /* the last one configured */
static int control = -1; /* the socket for the ioctls: open before START, since to make one is as much work as to configure an interface */

/* The first interface that is Ethernet: the lowest index. */
static int first_interface(int fd, struct ifreq *request)
{
    for (int index = 1; index < 64; index++) {
        memset(request, 0, sizeof *request);
        request->ifr_ifindex = index;
        if (ioctl(fd, SIOCGIFNAME, request) == 0 && ioctl(fd, SIOCGIFHWADDR, request) == 0 && request->ifr_hwaddr.sa_family == ARPHRD_ETHER)
            return 0;
    }
    errno = ENODEV;
    return -1;
}

static void put_address(struct sockaddr *to, uint32_t address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = address};
    memcpy(to, &in, sizeof in);
}

/* A route of an earlier job may lead elsewhere. */
static int set_route(int fd, struct rtentry *route)
{
    struct rtentry any = *route;
    if (ioctl(fd, SIOCADDRT, route) == 0)
        return 0;
    if (errno != EEXIST)
        return -1;
    put_address(&any.rt_gateway, 0);
    any.rt_flags = RTF_UP;
    return ioctl(fd, SIOCDELRT, &any) || ioctl(fd, SIOCADDRT, route) ? -1 : 0;
}

static int set_mac(int fd, const uint8_t *mac)
{
    struct ifreq request;
    if (first_interface(fd, &request)) /* it keeps the existing address */
        return -1;
    if (memcmp(request.ifr_hwaddr.sa_data, mac, MAC_LENGTH) == 0)
        return 0;
    memcpy(request.ifr_hwaddr.sa_data, mac, MAC_LENGTH);
    return ioctl(fd, SIOCSIFHWADDR, &request);
}

/* Already configured like this for an earlier job: a clone whose template has rehearsed has nothing to do. */
static bool is_configured(int fd, const struct ipv4 *network)
{
    struct ifreq request;
    struct sockaddr_in address;
    if (memcmp(&configured, network, sizeof configured) || first_interface(fd, &request) || ioctl(fd, SIOCGIFADDR, &request))
        return false;
    memcpy(&address, &request.ifr_addr, sizeof address);
    return address.sin_addr.s_addr == network->address;
}

static int configure(int fd, const struct ipv4 *network)
{
    struct ifreq request;
    struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
    if (first_interface(fd, &request))
        return -1;
    put_address(&request.ifr_addr, network->address);
    if (ioctl(fd, SIOCSIFADDR, &request))
        return -1;
    put_address(&request.ifr_netmask, network->mask);
    if (ioctl(fd, SIOCSIFNETMASK, &request) || interface_up(fd, &request))
        return -1;
    put_address(&route.rt_dst, 0);
    put_address(&route.rt_genmask, 0);
    put_address(&route.rt_gateway, network->gateway);
    return set_route(fd, &route);
}

void network_prepare(void)
{
    if (control < 0)
        control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

int network_configure(const struct ipv4 *network, const uint8_t *mac)
{
    char line[64], text[INET_ADDRSTRLEN];
    network_prepare();
    if (mac && set_mac(control, mac))
        return -1;
    if (!network || is_configured(control, network))
        return 0;
    if (configure(control, network))
        return -1;
    configured = *network;
    snprintf(line, sizeof line, "nameserver %s\n", inet_ntop(AF_INET, &network->nameserver, text, sizeof text));
    unlink("/etc/resolv.conf"); /* often a link to a file of a resolver that does not run here */
    return write_file("/etc/resolv.conf", O_CREAT | O_TRUNC, line);
}
