#ifndef _NGX_VIDGEN_PG_CONNINFO_H_INCLUDED_
#define _NGX_VIDGEN_PG_CONNINFO_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <libpq-fe.h>
#include "io/ngx_vidgen_pg.h"


/*
 * A connection string taken apart.  The bridge goes through the hosts by
 * itself, so that each gets its own timeout and name resolution; libpq is
 * given one address at a time.
 */

typedef struct {
    ngx_str_t      name;       /* as written: name, address, socket folder;
                                  NUL-terminated */
    char          *port;       /* NULL: libpq's default */
    ngx_str_t     *addrs;      /* texts, NUL-terminated */
    ngx_uint_t     naddrs;
    unsigned       local:1;    /* a Unix socket: no addresses */
    unsigned       named:1;    /* to be resolved at run time */
} ngx_vidgen_pg_host_t;

typedef struct {
    PQconninfoOption  *options;            /* as given */
    ngx_array_t        hosts;              /* of ngx_vidgen_pg_host_t, at
                                              least one */
    ngx_msec_t         connect_timeout;    /* of one address */
    u_char             unacked[NGX_INT_T_LEN + 1];
} ngx_vidgen_pg_target_t;


/*
 * Starts to connect to host at addr (NULL: a Unix socket).  NULL: no memory;
 * else as PQconnectStart().
 */
PGconn *ngx_vidgen_pg_target_connect(ngx_vidgen_pg_target_t *target,
    ngx_vidgen_pg_host_t *host, char *addr);


#endif /* _NGX_VIDGEN_PG_CONNINFO_H_INCLUDED_ */
