#ifndef _NGX_HTTP_VIDGEN_CLOSER_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_CLOSER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_operation.h"


/*
 * What must reach the database: moving on, the acceptance, the end.  The call
 * is repeated until the database has answered, also after the client has been
 * told that the outcome is unknown, and while the worker shuts down.
 */

/*
 * Calls statement with op->params, which are set; closed gets the answer.  When
 * it is given up, the operation has ended and closed is not called.
 */
void ngx_http_vidgen_closer_call(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_store_statement_e statement, ngx_http_vidgen_closed_pt closed);

/* The attempt is accepted: records the provider's job id and answers. */
void ngx_http_vidgen_closer_submitted(ngx_http_vidgen_operation_t *op);

/*
 * No further attempt: closes the last one by op->verdict and answers with
 * error, or with 202 while an attempt may still succeed.
 */
void ngx_http_vidgen_closer_abandon(ngx_http_vidgen_operation_t *op,
    ngx_http_vidgen_error_e error);

/* The process exits: says which acceptances could not be recorded. */
void ngx_http_vidgen_closer_exit(void);


#endif /* _NGX_HTTP_VIDGEN_CLOSER_H_INCLUDED_ */
