#include <ngx_config.h>
#include <ngx_core.h>
#include <curl/curl.h>
#include "base/ngx_vidgen_text.h"
#include "io/ngx_vidgen_fetch.h"
#include "io/ngx_vidgen_fetch_int.h"


#define NGX_VIDGEN_FETCH_PROTOCOLS  "http,https"
#define NGX_VIDGEN_FETCH_AGENT      "ngx_http_vidgen_module"
#define NGX_VIDGEN_FETCH_HEADER     262144   /* bytes of all of them */


typedef struct {
    CURLcode                     code;
    ngx_vidgen_fetch_outcome_e   outcome;
} ngx_vidgen_fetch_code_t;


static ngx_int_t ngx_vidgen_fetch_set_method(
    ngx_vidgen_fetch_request_t *request);
static size_t ngx_vidgen_fetch_on_header(char *line, size_t size, size_t n,
    void *data);
static size_t ngx_vidgen_fetch_on_body(char *bytes, size_t size, size_t n,
    void *data);
static time_t ngx_vidgen_fetch_max_age(ngx_str_t *value);
static ngx_msec_t ngx_vidgen_fetch_time(ngx_vidgen_fetch_request_t *request,
    CURLINFO info);


/* by ngx_vidgen_fetch_outcome_e */
ngx_str_t  ngx_vidgen_fetch_outcomes[] = {
    ngx_string("answered"),
    ngx_string("connect"),
    ngx_string("dns"),
    ngx_string("tls"),
    ngx_string("reset"),
    ngx_string("timeout"),
    ngx_string("invalid_answer"),
    ngx_string("failed")
};


/* what is not listed is a connection that was lost */
static ngx_vidgen_fetch_code_t  ngx_vidgen_fetch_codes[] = {
    { CURLE_OK,                       NGX_VIDGEN_FETCH_ANSWERED },
    { CURLE_COULDNT_CONNECT,          NGX_VIDGEN_FETCH_CONNECT },
    { CURLE_INTERFACE_FAILED,         NGX_VIDGEN_FETCH_CONNECT },
    { CURLE_COULDNT_RESOLVE_HOST,     NGX_VIDGEN_FETCH_DNS },
    { CURLE_COULDNT_RESOLVE_PROXY,    NGX_VIDGEN_FETCH_DNS },
    { CURLE_SSL_CONNECT_ERROR,        NGX_VIDGEN_FETCH_TLS },
    { CURLE_PEER_FAILED_VERIFICATION, NGX_VIDGEN_FETCH_TLS },
    { CURLE_SSL_CIPHER,               NGX_VIDGEN_FETCH_TLS },
    { CURLE_SSL_ISSUER_ERROR,         NGX_VIDGEN_FETCH_TLS },
    { CURLE_SSL_INVALIDCERTSTATUS,    NGX_VIDGEN_FETCH_TLS },
    { CURLE_OPERATION_TIMEDOUT,       NGX_VIDGEN_FETCH_TIMEOUT },
    { CURLE_WRITE_ERROR,              NGX_VIDGEN_FETCH_INVALID },
    { CURLE_WEIRD_SERVER_REPLY,       NGX_VIDGEN_FETCH_INVALID },
    { CURLE_UNSUPPORTED_PROTOCOL,     NGX_VIDGEN_FETCH_INVALID },
    { CURLE_BAD_CONTENT_ENCODING,     NGX_VIDGEN_FETCH_INVALID },
    { CURLE_HTTP2,                    NGX_VIDGEN_FETCH_INVALID },
    { CURLE_OUT_OF_MEMORY,            NGX_VIDGEN_FETCH_FAILED },
    { CURLE_FAILED_INIT,              NGX_VIDGEN_FETCH_FAILED },
    { CURLE_URL_MALFORMAT,            NGX_VIDGEN_FETCH_FAILED },
    { CURLE_SSL_CACERT_BADFILE,       NGX_VIDGEN_FETCH_FAILED },
    { CURLE_SSL_CERTPROBLEM,          NGX_VIDGEN_FETCH_FAILED }
};


ngx_int_t
ngx_vidgen_fetch_header(ngx_vidgen_fetch_request_t *request, ngx_str_t *name,
    ngx_str_t *value)
{
    u_char             *line;
    struct curl_slist  *headers;

    line = ngx_pnalloc(request->pool, name->len + value->len
                                      + sizeof(": "));
    if (line == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(line, "%V: %V%Z", name, value);

    headers = curl_slist_append(request->headers, (char *) line);
    if (headers == NULL) {
        return NGX_ERROR;
    }

    request->headers = headers;

    return NGX_OK;
}


ngx_int_t
ngx_vidgen_fetch_prepare(ngx_vidgen_fetch_request_t *request)
{
    CURL    *easy;
    u_char  *url;

    easy = request->easy;

    url = ngx_pnalloc(request->pool, request->url.len + 1);
    if (url == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(url, "%V%Z", &request->url);

    if (curl_easy_setopt(easy, CURLOPT_URL, url) != CURLE_OK
        || curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L) != CURLE_OK
        || curl_easy_setopt(easy, CURLOPT_PRIVATE, request) != CURLE_OK
        || curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long) request->timeout)
           != CURLE_OK)
    {
        return NGX_ERROR;
    }

    /* a definition says where it leads, neither an answer nor the shell */

    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");

#if (LIBCURL_VERSION_NUM >= 0x075500)
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, NGX_VIDGEN_FETCH_PROTOCOLS);
#else
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS,
                     (long) (CURLPROTO_HTTP|CURLPROTO_HTTPS));
#endif

#if (LIBCURL_VERSION_NUM >= 0x075700)
    /* else a timeout would wait for the thread that resolves the name */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif

    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);

    if (request->fetch->ca_file.len
        && curl_easy_setopt(easy, CURLOPT_CAINFO, request->fetch->ca_file.data)
           != CURLE_OK)
    {
        return NGX_ERROR;
    }

    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(easy, CURLOPT_USERAGENT, NGX_VIDGEN_FETCH_AGENT);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, request->headers);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, ngx_vidgen_fetch_on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, request);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, ngx_vidgen_fetch_on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);

    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, ngx_vidgen_fetch_open);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, request->fetch);

    if (request->fresh) {
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    }

    return ngx_vidgen_fetch_set_method(request);
}


static ngx_int_t
ngx_vidgen_fetch_set_method(ngx_vidgen_fetch_request_t *request)
{
    CURL        *easy;
    ngx_str_t   *method;
    CURLcode     code;

    easy = request->easy;
    method = &request->method;

    if (method->len == 4 && ngx_strncmp(method->data, "POST", 4) == 0) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                         (curl_off_t) request->body.len);
        code = curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
                                request->body.len ? (char *) request->body.data
                                                  : "");

    } else if (method->len == 4 && ngx_strncmp(method->data, "HEAD", 4) == 0) {
        code = curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);

    } else if (method->len == 7
               && ngx_strncmp(method->data, "OPTIONS", 7) == 0)
    {
        code = curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "OPTIONS");

    } else {
        code = curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    }

    return code == CURLE_OK ? NGX_OK : NGX_ERROR;
}


/*
 * libcurl keeps all headers, also interim ones and trailers, some of its
 * versions without a bound
 */
static size_t
ngx_vidgen_fetch_on_header(char *line, size_t size, size_t n, void *data)
{
    ngx_vidgen_fetch_request_t *request = data;

    u_char     *p, *colon, *last;
    ngx_str_t   name, value;

    request->header += size * n;

    if (request->header > NGX_VIDGEN_FETCH_HEADER) {
        return 0;
    }

    p = (u_char *) line;
    last = p + size * n;
    colon = ngx_strlchr(p, last, ':');

    if (colon == NULL) {
        return size * n;
    }

    name.data = p;
    name.len = colon - p;

    for (p = colon + 1; p < last && (*p == ' ' || *p == '\t'); p++) {
        /* void */
    }

    while (last > p && last[-1] <= ' ') {
        last--;
    }

    value.data = p;
    value.len = last - p;

    if (name.len == 11
        && ngx_strncasecmp(name.data, (u_char *) "retry-after", 11) == 0)
    {
        request->answer.retry_after = ngx_vidgen_text_retry_after(&value);

    } else if (name.len == 13
               && ngx_strncasecmp(name.data, (u_char *) "cache-control", 13)
                  == 0)
    {
        request->answer.max_age = ngx_vidgen_fetch_max_age(&value);
    }

    return size * n;
}


static time_t
ngx_vidgen_fetch_max_age(ngx_str_t *value)
{
    u_char  *p, *last, *digits;

    static u_char  name[] = "max-age=";

    last = value->data + value->len;

    p = ngx_strlcasestrn(value->data, last, name, sizeof(name) - 2);
    if (p == NULL) {
        return -1;
    }

    digits = p + sizeof(name) - 1;

    for (p = digits; p < last && *p >= '0' && *p <= '9'; p++) {
        /* void */
    }

    return p > digits ? ngx_atotm(digits, p - digits) : -1;
}


/* another number of bytes than were given ends the transfer */
static size_t
ngx_vidgen_fetch_on_body(char *bytes, size_t size, size_t n, void *data)
{
    ngx_vidgen_fetch_request_t *request = data;

    size_t      len, room;
    u_char     *p;
    ngx_str_t  *body;

    len = size * n;
    body = &request->answer.body;

    if (len > request->max - body->len) {
        return 0;
    }

    if (body->len + len > request->room) {

        room = ngx_max(2 * request->room, 4096);
        room = ngx_max(room, body->len + len);

        p = ngx_pnalloc(request->pool, room);
        if (p == NULL) {
            return 0;
        }

        if (body->len) {
            ngx_memcpy(p, body->data, body->len);
        }

        body->data = p;
        request->room = room;
    }

    ngx_memcpy(body->data + body->len, bytes, len);
    body->len += len;

    return len;
}


void
ngx_vidgen_fetch_finish(ngx_vidgen_fetch_request_t *request, CURLcode code)
{
    long                        status, sent;
    ngx_uint_t                  i;
    ngx_msec_t                  dns, connect, tls;
    ngx_vidgen_fetch_answer_t  *answer;

    answer = &request->answer;
    answer->outcome = NGX_VIDGEN_FETCH_RESET;
    answer->detail = curl_easy_strerror(code);

    for (i = 0; i < sizeof(ngx_vidgen_fetch_codes)
                    / sizeof(ngx_vidgen_fetch_codes[0]); i++)
    {
        if (ngx_vidgen_fetch_codes[i].code == code) {
            answer->outcome = ngx_vidgen_fetch_codes[i].outcome;
            break;
        }
    }

    status = 0;
    curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);

    answer->status = status;

    if (code == CURLE_WRITE_ERROR && request->head
        && request->header <= NGX_VIDGEN_FETCH_HEADER)
    {
        answer->outcome = NGX_VIDGEN_FETCH_ANSWERED;
    }

    /* what libcurl also says of a header that is too long for it */

    sent = 0;
    curl_easy_getinfo(request->easy, CURLINFO_REQUEST_SIZE, &sent);

    if (code == CURLE_OUT_OF_MEMORY && sent > 0) {
        answer->outcome = NGX_VIDGEN_FETCH_INVALID;
        answer->detail = "a header is too long";
    }

    dns = ngx_vidgen_fetch_time(request, CURLINFO_NAMELOOKUP_TIME_T);
    connect = ngx_vidgen_fetch_time(request, CURLINFO_CONNECT_TIME_T);
    tls = ngx_vidgen_fetch_time(request, CURLINFO_APPCONNECT_TIME_T);

    answer->dns_ms = dns;
    answer->connect_ms = connect > dns ? connect - dns : 0;
    answer->tls_ms = tls > connect ? tls - connect : 0;
    answer->total_ms = ngx_vidgen_fetch_time(request, CURLINFO_TOTAL_TIME_T);
}


static ngx_msec_t
ngx_vidgen_fetch_time(ngx_vidgen_fetch_request_t *request, CURLINFO info)
{
    curl_off_t  us;

    us = 0;
    curl_easy_getinfo(request->easy, info, &us);

    return us > 0 ? (us + 500) / 1000 : 0;
}
