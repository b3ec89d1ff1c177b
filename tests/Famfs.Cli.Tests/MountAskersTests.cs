using System.Diagnostics;
using Famfs.Client;
using Famfs.Core;

namespace Famfs.Cli.Tests;

public sealed class MountAskersTests : IDisposable
{
    private readonly List<Process> _started = [];

    public void Dispose()
    {
        foreach (Process process in _started)
        {
            if (!process.HasExited)
                process.Kill();
            process.Dispose();
        }
    }

    [Fact]
    public async Task One_process_answers_all_questions_and_ends_with_the_verb()
    {
        MountAskers askers = new(StartAsker);
        for (int i = 0; i < 20; i++)
        {
            using MemoryStream answer = MountQuestions.Open(await askers.AskAsync(["find", $"/tmp/ü {i}", MountEntry.TablePath], TestContext.Current.CancellationToken));
            Assert.Equal(new MountAnswer(null, $"/tmp/ü {i}"), MountAnswer.Read(answer));
        }
        // An error is an answer, too.
        FamfsException error = Assert.Throws<FamfsException>(() => MountQuestions.Open(askers.AskAsync(["what"], TestContext.Current.CancellationToken).GetAwaiter().GetResult()));
        Assert.Contains("no such question", error.Message, StringComparison.Ordinal);
        Process one = Assert.Single(_started);
        int id = one.Id;

        askers.End();

        Assert.False(Directory.Exists($"/proc/{id}"));
        _started.Clear();
    }

    [Fact]
    public async Task One_that_does_not_answer_is_left_behind_and_the_next_question_gets_another()
    {
        MountAskers askers = new(() => _started.Count == 0 ? Start("/bin/sleep", "600") : StartAsker());
        using CancellationTokenSource over = new();
        Task<byte[]> asking = askers.AskAsync(["find", "/tmp", MountEntry.TablePath], over.Token);
        Assert.False(asking.IsCompleted);

        await over.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => asking);
        await _started[0].WaitForExitAsync(TestContext.Current.CancellationToken);

        MountQuestions.Open(await askers.AskAsync(["find", "/tmp", MountEntry.TablePath], TestContext.Current.CancellationToken)).Dispose();
        Assert.Equal(2, _started.Count);
    }

    [Fact]
    public async Task One_that_was_killed_between_two_questions_is_replaced_and_one_that_ends_at_the_first_is_an_error()
    {
        MountAskers askers = new(StartAsker);
        MountQuestions.Open(await askers.AskAsync(["find", "/tmp", MountEntry.TablePath], TestContext.Current.CancellationToken)).Dispose();
        _started[0].Kill();
        await _started[0].WaitForExitAsync(TestContext.Current.CancellationToken);
        MountQuestions.Open(await askers.AskAsync(["find", "/tmp", MountEntry.TablePath], TestContext.Current.CancellationToken)).Dispose();
        Assert.Equal(2, _started.Count);

        MountAskers ending = new(() => Start("/bin/true"));
        FamfsException error = await Assert.ThrowsAsync<FamfsException>(() => ending.AskAsync(["find", "/tmp", MountEntry.TablePath], TestContext.Current.CancellationToken));
        Assert.Equal("/bin/true --ask-mount ended without an answer", error.Message);
    }

    private Process StartAsker() => Start("dotnet", Path.Combine(AppContext.BaseDirectory, "famfs.dll"), MountQuestions.Verb);

    private Process Start(string program, params string[] arguments)
    {
        Process process = new() { StartInfo = new(program, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true } };
        process.Start();
        _started.Add(process);
        return process;
    }
}
