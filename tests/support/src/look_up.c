/* Looks up each name that it is given, as any program does. A line for each: the name, and the addresses or `none`.
   Names after `-4` are looked up for IPv4 alone. */
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static void look_up(const char *name, int family)
{
    struct addrinfo hints = { .ai_family = family, .ai_socktype = SOCK_STREAM }, *list;
    int error = getaddrinfo(name, NULL, &hints, &list);

    printf("%s:", name);
    if (error != 0) {
        printf(" %s\n", error == EAI_NONAME ? "none" : gai_strerror(error));
        return;
    }
    for (struct addrinfo *found = list; found != NULL; found = found->ai_next) {
        char text[INET6_ADDRSTRLEN] = "?";
        const void *address = &((struct sockaddr_in *)found->ai_addr)->sin_addr;

        if (found->ai_family == AF_INET6)
            address = &((struct sockaddr_in6 *)found->ai_addr)->sin6_addr;
        inet_ntop(found->ai_family, address, text, sizeof text);
        printf(" %s", text);
    }
    printf("\n");
    freeaddrinfo(list);
}

int main(int count, char **arguments)
{
    int family = AF_UNSPEC;

    for (int index = 1; index < count; index++) {
        if (strcmp(arguments[index], "-4") == 0)
            family = AF_INET;
        else
            look_up(arguments[index], family);
    }
    return 0;
}
