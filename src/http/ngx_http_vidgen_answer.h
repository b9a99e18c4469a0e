#ifndef _NGX_HTTP_VIDGEN_ANSWER_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_ANSWER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include "http/ngx_http_vidgen_operation.h"


/*
 * The answers of a generation.  Each ends the request, if it is still there,
 * counts the outcome and sets the log variables; the operation goes on or
 * ends without the request.
 */

/* An error; detail may be NULL; with_job: the answer names the job. */
void ngx_http_vidgen_answer_error(ngx_http_vidgen_operation_t *op,
    ngx_http_vidgen_error_e error, ngx_str_t *detail, ngx_uint_t with_job);

/* 200 or 202 with {job_id, provider, status, estimated_time} */
void ngx_http_vidgen_answer_generation(ngx_http_vidgen_operation_t *op,
    ngx_uint_t status, ngx_http_vidgen_generation_t *generation);

/*
 * 202: a provider, the last that was asked, may have the request, the credits
 * stay held.
 */
void ngx_http_vidgen_answer_processing(ngx_http_vidgen_operation_t *op,
    ngx_str_t *provider);

/* 200: a webhook has shown that an attempt was accepted, or that it is done */
void ngx_http_vidgen_answer_accepted(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_store_abandon_row_t *row);

/*
 * What the database says instead of "go": a replay, a running or an ended
 * generation of the same key, or why there is none.
 */
void ngx_http_vidgen_answer_begin(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_store_begin_row_t *row);

/* The answer that submitted recorded. */
void ngx_http_vidgen_answer_submitted(ngx_http_vidgen_operation_t *op,
    ngx_vidgen_store_submitted_row_t *row);


#endif /* _NGX_HTTP_VIDGEN_ANSWER_H_INCLUDED_ */
