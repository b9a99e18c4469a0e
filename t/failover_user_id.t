#!/usr/bin/perl

# vidgen_user_id from auth_request: whose credits are spent is said by who
# authenticates, not by the body; also when it comes to a second provider.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More tests => 25;

use VidgenTest::Books qw(balance customer everything wrong_books);
use VidgenTest::Http qw(get http2 post request);
use VidgenTest::Nginx;
use VidgenTest::Postgres;
use VidgenTest::Provider;

my $pg = VidgenTest::Postgres->new(fsync => 0);
my $standin = VidgenTest::Provider->new;
my $accounts = VidgenTest::Provider->new;

my $nginx = VidgenTest::Nginx->new(
    vars   => { DB => $pg->edge_conninfo, BASE => $standin->url,
        ACCOUNTS => $accounts->url },
    config => <<'EOT')->start;
%%GLOBALS%%

events { }

http {
    %%HTTP%%

    vidgen_database "%%DB%%";

    vidgen_provider a {
        submit { url %%BASE%%/a; body /user $vidgen_user;
                 job_id /request_id; }
    }
    vidgen_provider b {
        submit { url %%BASE%%/b; body /user $vidgen_user;
                 job_id /request_id; }
    }

    server {
        listen 127.0.0.1:%%PORT%%;
        listen 127.0.0.1:%%PORT_H2%% http2;

        vidgen_retry                  attempts=1;
        proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;
        include                       %%PROVIDERS%%/vidgen_pass.conf;

        auth_request      /_account;
        auth_request_set  $account $upstream_http_x_account;
        vidgen_user_id    $account;

        location = /generate-video { vidgen_generate a b; }
        location /jobs/            { vidgen_job; }

        location = /_account {
            internal;
            auth_request             off;
            proxy_pass               %%ACCOUNTS%%;
            proxy_pass_request_body  off;
            proxy_set_header         Content-Length "";
        }
    }
}
EOT

my $ann = customer($pg, 10);
my $bob = customer($pg, 10);
my %order = (model_id => 'vision-1', prompt => 'p');

# who may come in, by their cookie
sub account { $accounts->on(qr{}, status => 200, body => '',
    headers => { 'X-Account' => $_[0] }) }

sub order {
    my (%more) = @_;
    return post($nginx->url('/generate-video'), { %order, %more });
}


account($ann);

my $answer = order();
my $job = $answer->{json}{job_id};
is("$answer->{status} $answer->{json}{provider}", '200 a',
    'a body without user_id');
is(balance($pg, $ann) . ' ' . balance($pg, $bob), '9 10', 'she pays');
is($standin->requests->[-1]{body}, qq({"user":"$ann"}),
    'she is $vidgen_user');

is(order(user_id => $ann)->{status}, 200, 'a body with her id');
is(order(user_id => uc $ann)->{status}, 200, '... in capitals');
is(balance($pg, $ann), 7, 'she pays');

my $before = everything($pg);
my $requests = @{ $standin->requests };
$answer = order(user_id => $bob);
is("$answer->{status} $answer->{json}{code}", '403 wrong_user',
    "a body with another's id");
is(everything($pg), $before, '... nothing is written');
is(@{ $standin->requests }, $requests, '... nobody is asked');
is(order(user_id => 'me')->{status}, 400, 'a body with no id at all');

# the second provider

$standin->next(status => 503);
$answer = order();
is("$answer->{status} $answer->{json}{provider}", '200 b', 'the second one');
is($standin->requests->[-1]{body}, qq({"user":"$ann"}),
    'she is $vidgen_user there too');
is(@{ $accounts->requests }, 6, 'who asks is asked once for each request');
is(balance($pg, $ann), 6, 'she pays once');

$answer = http2('POST', $nginx->url('/generate-video', 'H2'), {},
    '{"model_id":"vision-1","prompt":"p"}');
is("$answer->{status} " . balance($pg, $ann), '200 5', 'over HTTP/2');

# keys belong to users

my $key = { 'Idempotency-Key' => 'k' };
my $first = post($nginx->url('/generate-video'), \%order, $key);
account($bob);
my $second = post($nginx->url('/generate-video'), \%order, $key);
is("$first->{status} $second->{status}", '200 200', 'a key of two users');
isnt($first->{json}{job_id}, $second->{json}{job_id}, '... is two keys');
is(balance($pg, $ann) . ' ' . balance($pg, $bob), '4 9', '... both pay');

is(get($nginx->url("/jobs/$job"))->{status}, 404, "another's job is unknown");
is(get($nginx->url("/jobs/$second->{json}{job_id}"))->{status}, 200,
    "one's own is not");

# who is nobody

$before = everything($pg);
account('');
is(order()->{json}{code}, 'wrong_user', 'without an identity');
account('guest');
is(order(user_id => 'guest')->{status}, 400, 'with one that is no UUID');
$accounts->on(qr{}, status => 401, body => '');
is(order(user_id => $ann)->{status}, 401, 'not authenticated');
is(everything($pg), $before, '... nothing is written');

is_deeply([wrong_books($pg)], [], 'the books are right');
