#ifndef _NGX_HTTP_VIDGEN_RESPONSE_H_INCLUDED_
#define _NGX_HTTP_VIDGEN_RESPONSE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/*
 * Answers in JSON.  Each function below returns what
 * ngx_http_finalize_request() takes.
 */

/* every error that the module answers, by the table in the .c */
typedef enum {
    NGX_HTTP_VIDGEN_BAD_JSON = 0,
    NGX_HTTP_VIDGEN_NOT_AN_OBJECT,
    NGX_HTTP_VIDGEN_BAD_FIELD,
    NGX_HTTP_VIDGEN_UNKNOWN_PROVIDER,
    NGX_HTTP_VIDGEN_UNKNOWN_MODEL,
    NGX_HTTP_VIDGEN_WRONG_PROVIDER,
    NGX_HTTP_VIDGEN_BAD_IDEMPOTENCY_KEY,
    NGX_HTTP_VIDGEN_INSUFFICIENT_CREDITS,
    NGX_HTTP_VIDGEN_BAD_SIGNATURE,
    NGX_HTTP_VIDGEN_WRONG_JOB,
    NGX_HTTP_VIDGEN_WRONG_USER,
    NGX_HTTP_VIDGEN_UNKNOWN_JOB,
    NGX_HTTP_VIDGEN_WRONG_METHOD,
    NGX_HTTP_VIDGEN_STILL_RUNNING,
    NGX_HTTP_VIDGEN_KEY_MISMATCH,
    NGX_HTTP_VIDGEN_PROVIDER_REFUSED,
    NGX_HTTP_VIDGEN_PROVIDER_FAILED,
    NGX_HTTP_VIDGEN_NO_PROVIDER,
    NGX_HTTP_VIDGEN_UNAVAILABLE,
    NGX_HTTP_VIDGEN_OUTCOME_UNKNOWN,
    NGX_HTTP_VIDGEN_NO_KEY_SET,
    NGX_HTTP_VIDGEN_IN_FLIGHT,
    NGX_HTTP_VIDGEN_ABSENT_PROVIDER
} ngx_http_vidgen_error_e;

typedef struct {
    ngx_str_t                  detail;       /* instead of the sentence */
    ngx_str_t                  job_id;       /* added as a member if set */
    ngx_str_t                  allow;        /* of ..._WRONG_METHOD */
    ngx_uint_t                 retry_after;  /* seconds; 0: the table's */
} ngx_http_vidgen_error_info_t;

/* a generation's answer */
typedef struct {
    ngx_str_t                  job_id;
    ngx_str_t                  provider;
    ngx_str_t                  status;
    ngx_str_t                  estimated_time;   /* digits; empty: none */
} ngx_http_vidgen_generation_t;


/* Sends body, which lives as long as the request, with that status. */
ngx_int_t ngx_http_vidgen_send(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *body);

/*
 * Sends {"error": sentence, "code": token}; where an error_page stands for
 * the status, nginx's answer is left to it.  info may be NULL.
 */
ngx_int_t ngx_http_vidgen_send_error(ngx_http_request_t *r,
    ngx_http_vidgen_error_e error, ngx_http_vidgen_error_info_t *info);

/*
 * The same as the request's outcome; detail, if not NULL and not empty,
 * stands instead of the error's sentence.
 */
ngx_int_t ngx_http_vidgen_send_refusal(ngx_http_request_t *r,
    ngx_http_vidgen_error_e error, ngx_str_t *detail);

/* The same of another method than those of the header Allow. */
ngx_int_t ngx_http_vidgen_send_wrong_method(ngx_http_request_t *r,
    char *allow);

/* The error of that token, for answers that the database kept. */
ngx_int_t ngx_http_vidgen_error_by_code(ngx_str_t *code,
    ngx_http_vidgen_error_e *error);

/* The token and HTTP status of an error. */
ngx_str_t *ngx_http_vidgen_error_code(ngx_http_vidgen_error_e error);
ngx_uint_t ngx_http_vidgen_error_status(ngx_http_vidgen_error_e error);

/* Sends {"job_id", "provider", "status", "estimated_time"} in this order. */
ngx_int_t ngx_http_vidgen_send_generation(ngx_http_request_t *r,
    ngx_uint_t status, ngx_http_vidgen_generation_t *generation);

/* Sends {"success":true,"job_id":...}; job NULL: null. */
ngx_int_t ngx_http_vidgen_send_success(ngx_http_request_t *r, ngx_str_t *job);

/*
 * Adds a header whose value lives as long as the request, or sets the one of
 * that name.
 */
ngx_int_t ngx_http_vidgen_add_header(ngx_http_request_t *r, char *name,
    ngx_str_t *value);

/* Adds X-Idempotent-Replay: true. */
ngx_int_t ngx_http_vidgen_add_replay(ngx_http_request_t *r);


#endif /* _NGX_HTTP_VIDGEN_RESPONSE_H_INCLUDED_ */
