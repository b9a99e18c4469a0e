#ifndef _NGX_VIDGEN_PG_CONNECT_H_INCLUDED_
#define _NGX_VIDGEN_PG_CONNECT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "io/ngx_vidgen_pg_int.h"
#include "io/ngx_vidgen_pg_outcome.h"


/*
 * From nothing to a greeted connection: rounds over the hosts and their
 * addresses, then the hello statement; a failed round is followed by a pause
 * that grows.
 */

/* Begins a round now. */
void ngx_vidgen_pg_connect_start(ngx_vidgen_pg_conn_t *conn);

/* Begins a round after the pause that is due. */
void ngx_vidgen_pg_connect_later(ngx_vidgen_pg_conn_t *conn);

/* The socket is ready while libpq connects. */
void ngx_vidgen_pg_connect_poll(ngx_vidgen_pg_conn_t *conn);

/* This address is of no use, for conn->reason: the next one. */
void ngx_vidgen_pg_connect_failed(ngx_vidgen_pg_conn_t *conn);

/* The hello statement was answered. */
void ngx_vidgen_pg_connect_greeted(ngx_vidgen_pg_conn_t *conn,
    PGresult *rows, PGresult *error, ngx_vidgen_pg_verdict_e verdict);

/* Drops what is begun, but nothing of an established connection. */
void ngx_vidgen_pg_connect_cancel(ngx_vidgen_pg_conn_t *conn);


#endif /* _NGX_VIDGEN_PG_CONNECT_H_INCLUDED_ */
