/* Prints what getaddrinfo tells for a name: addresses, or the name of the error. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#ifndef EAI_NODATA
#define EAI_NODATA -5
#endif

static const char *word(int error)
{
	switch (error) {
	case EAI_NONAME: return "EAI_NONAME";
	case EAI_NODATA: return "EAI_NODATA";
	case EAI_AGAIN: return "EAI_AGAIN";
	case EAI_FAIL: return "EAI_FAIL";
	default: return gai_strerror(error);
	}
}

int main(int argc, char **argv)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found, *at;
	char text[INET6_ADDRSTRLEN];
	int error = getaddrinfo(argv[1], NULL, &hints, &found);
	if (argc < 2 || error) {
		printf("%s\n", word(error));
		return 0;
	}
	for (at = found; at; at = at->ai_next) {
		void *where = at->ai_family == AF_INET
			? (void *)&((struct sockaddr_in *)at->ai_addr)->sin_addr
			: (void *)&((struct sockaddr_in6 *)at->ai_addr)->sin6_addr;
		printf("%s\n", inet_ntop(at->ai_family, where, text, sizeof text));
	}
	return 0;
}
