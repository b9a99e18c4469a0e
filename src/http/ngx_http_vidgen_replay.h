#ifndef _NGX_HTTP_VIDGEN_REPLAY_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_REPLAY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_operation.h"


/*
 * The zone as a filter of Idempotency-Keys: PostgreSQL decides, a hit saves
 * asking it.  Only accepted generations (200) are kept there.
 */

/*
 * Looks the key of op->input up.  NGX_OK: an accepted generation of the same
 * key and the same payload, for ngx_http_vidgen_replay_send(); NGX_DECLINED:
 * no key, or ask the database.
 */
ngx_int_t ngx_http_vidgen_replay_find(ngx_http_vidgen_operation_t *op);

/* Sends what was found; returns for ngx_http_finalize_request(). */
ngx_int_t ngx_http_vidgen_replay_send(ngx_http_vidgen_operation_t *op);

/* The answer is recorded: repeats of its key need no database. */
void ngx_http_vidgen_replay_remember(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_store_submitted_row_t *row);


#endif /* _NGX_HTTP_VIDGEN_REPLAY_H_INCLUDED_ */
